// A VMM for the published handshake, written from its description alone: it shares no line with the core. It maps a guest, hands
// its userfaultfd to the handler at SOCKET, touches every page with its vCPU threads, and compares each page with the snapshot.
//
// vmm SOCKET SNAPSHOT [--memory anon|memfd|hugetlb|mixed] [--regions N] [--vcpus N] [--order sequential|random] [--message
// current|old|both]
//     [--writes] [--names-threads] [--balloon] [--die-after N] [--hold-ms N] [--descriptors N] [--say-more] [--text MESSAGE]
//     [--no-check]
//
// Last line: {"pages", "seconds", "wrong", "not_zero", "gone"}. Exit status: 0, 1 after a wrong page, 3 when the handler has
// gone.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST_REGIONS = 32, MOST_VCPUS = 64, MOST_DESCRIPTORS = 4, OF_BALLOON = 8 };

static const char *socket_path, *snapshot_path, *memory = "anon", *order = "sequential", *message = "current", *text;
static unsigned regions = 1, vcpus = 1, hold_ms, descriptors = 1;
static uint64_t die_after;
static bool writes, names_threads, balloon, say_more, no_check;

static uint64_t page_bytes = 4096, pages, bytes;
static unsigned char* region_at[MOST_REGIONS];
static uint64_t region_first[MOST_REGIONS], region_pages[MOST_REGIONS];
static const unsigned char* snapshot;
static int uffd, connection;
static atomic_uint_fast64_t touched, sum;
static atomic_bool gone, done, dropped;
static pthread_barrier_t start;
static double begin_s[MOST_VCPUS], end_s[MOST_VCPUS];

static void die(const char* what) {
  fprintf(stderr, "vmm: %s: %s\n", what, strerror(errno));
  exit(2);
}

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Mixed: every second region has huge pages, and pages are counted in small ones.
static bool huge(unsigned region) { return strcmp(memory, "hugetlb") == 0 || (strcmp(memory, "mixed") == 0 && region % 2 == 1); }

static uint64_t page_bytes_of(unsigned region) { return huge(region) ? 2u << 20 : page_bytes; }

static unsigned region_of(uint64_t page) {
  unsigned i = 0;
  while (page - region_first[i] >= region_pages[i]) ++i;
  return i;
}

// Of mixed memory the small pages.
static bool of_balloon(uint64_t page) {
  return balloon && page % OF_BALLOON == 0 && page_bytes_of(region_of(page)) == page_bytes;
}

static unsigned char* at(uint64_t page) {
  unsigned i = region_of(page);
  return region_at[i] + (page - region_first[i]) * page_bytes;
}

static void map_guest(void) {
  bool shared = strcmp(memory, "memfd") == 0;
  int fd = -1;
  if (shared) {
    fd = (int)syscall(SYS_memfd_create, "guest", 1u);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) die("memfd");
  }
  for (unsigned i = 0; i < regions; ++i) {
    region_first[i] = pages * i / regions;
    region_pages[i] = pages * (i + 1) / regions - region_first[i];
    uint64_t size = region_pages[i] * page_bytes;
    int flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (huge(i) ? MAP_HUGETLB : 0);
    // A gap above each region: as below and above 4 GiB.
    unsigned char* room = mmap(NULL, size + (64u << 20), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) die("mmap of a gap");
    uint64_t start_at = ((uint64_t)room + (2u << 20)) & ~(uint64_t)((2u << 20) - 1);
    region_at[i] =
        mmap((void*)start_at, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, (off_t)(region_first[i] * page_bytes));
    if (region_at[i] == MAP_FAILED) die("mmap of a region");
  }
}

static void register_guest(void) {
  uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (uffd < 0) die("userfaultfd");
  struct uffdio_api api = {.api = UFFD_API};
  if (balloon) api.features |= UFFD_FEATURE_EVENT_REMOVE;
  if (names_threads) api.features |= UFFD_FEATURE_THREAD_ID;
  if (ioctl(uffd, UFFDIO_API, &api) != 0) die("UFFDIO_API");
  for (unsigned i = 0; i < regions; ++i) {
    struct uffdio_register range = {.range = {(uint64_t)region_at[i], region_pages[i] * page_bytes},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0) die("UFFDIO_REGISTER");
  }
}

static size_t hello(char* into, size_t room) {
  if (text != NULL) return (size_t)snprintf(into, room, "%s", text);
  size_t length = (size_t)snprintf(into, room, "[");
  for (unsigned i = 0; i < regions; ++i) {
    length += (size_t)snprintf(into + length, room - length, "%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu",
                               i ? "," : "", (unsigned long long)region_at[i], (unsigned long long)(region_pages[i] * page_bytes),
                               (unsigned long long)(region_first[i] * page_bytes));
    if (strcmp(message, "old") != 0)
      length += (size_t)snprintf(into + length, room - length, ",\"page_size\":%llu", (unsigned long long)page_bytes_of(i));
    if (strcmp(message, "current") != 0)
      length += (size_t)snprintf(into + length, room - length, ",\"page_size_kib\":%llu", (unsigned long long)page_bytes_of(i));
    length += (size_t)snprintf(into + length, room - length, ",\"to_be_ignored\":7}");
  }
  return length + (size_t)snprintf(into + length, room - length, "]");
}

static void shake_hands(void) {
  connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
  if (connection < 0 || connect(connection, (struct sockaddr*)&address, sizeof address) != 0) die("connect");
  static char said[16384];
  struct iovec part = {said, hello(said, sizeof said)};
  int passed[MOST_DESCRIPTORS] = {uffd, uffd, uffd, uffd};
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof passed)] = {0};
  struct msghdr whole = {.msg_iov = &part, .msg_iovlen = 1};
  if (descriptors != 0) {
    whole.msg_control = control;
    whole.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
    struct cmsghdr* rights = CMSG_FIRSTHDR(&whole);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors * sizeof(int));
    memcpy(CMSG_DATA(rights), passed, descriptors * sizeof(int));
  }
  if (sendmsg(connection, &whole, MSG_NOSIGNAL) < 0) die("sendmsg");
  if (say_more && send(connection, "[]", 2, MSG_NOSIGNAL) != 2) die("send");
}

// The handler has gone: nobody will ever answer a sleeper again.
static void* watch_handler(void* unused) {
  (void)unused;
  struct pollfd waited = {connection, POLLIN, 0};
  while (!atomic_load(&done)) {
    if (poll(&waited, 1, 20) <= 0) continue;
    atomic_store(&gone, true);
    for (unsigned i = 0; i < regions; ++i) {
      struct uffdio_range range = {(uint64_t)region_at[i], region_pages[i] * page_bytes};
      ioctl(uffd, UFFDIO_UNREGISTER, &range);
    }
    break;
  }
  return NULL;
}

static void touch(uint64_t page) {
  volatile unsigned char* byte = at(page) + page % page_bytes;
  if (writes)
    *byte = *byte;
  else
    atomic_fetch_add_explicit(&sum, *byte, memory_order_relaxed);
  if (atomic_fetch_add(&touched, 1) + 1 == die_after) _exit(9);
}

static uint64_t common(uint64_t a, uint64_t b) { return b == 0 ? a : common(b, a % b); }

static void* vcpu(void* number) {
  uint64_t me = (uint64_t)number, first = pages * me / vcpus, count = pages * (me + 1) / vcpus - first;
  uint64_t step = 1;  // of a random order: coprime to the count, so that each page comes once
  if (strcmp(order, "random") == 0 && count > 1)
    for (step = 2654435761u % count | 1; common(step, count) != 1;) step += 2;
  pthread_barrier_wait(&start);
  begin_s[me] = now_s();
  for (uint64_t i = 0; i < count && !atomic_load_explicit(&gone, memory_order_relaxed); ++i) {
    uint64_t page = first + i * step % count;
    if (!of_balloon(page)) touch(page);
  }
  end_s[me] = now_s();
  return NULL;
}

// Drops its own pages while the vCPUs touch those between: half of them were there, half never were.
static void* drop(void* unused) {
  (void)unused;
  pthread_barrier_wait(&start);
  for (int twice = 0; twice < 2; ++twice)
    for (uint64_t page = 0; page < pages && !atomic_load(&gone); page += OF_BALLOON)
      if (of_balloon(page) && madvise(at(page), page_bytes, MADV_DONTNEED) != 0) die("MADV_DONTNEED");
  atomic_store(&dropped, true);
  return NULL;
}

static void check(uint64_t* wrong, uint64_t* not_zero) {
  unsigned char* zeros = calloc(1, page_bytes);
  for (uint64_t page = 0; page < pages && !atomic_load(&gone); ++page) {
    const unsigned char* expected = of_balloon(page) ? zeros : snapshot + page * page_bytes;
    uint64_t* counter = of_balloon(page) ? not_zero : wrong;
    if (memcmp(at(page), expected, page_bytes) != 0 && !atomic_load(&gone)) ++*counter;
  }
  free(zeros);
}

static void run(void) {
  pthread_t threads[MOST_VCPUS], watcher, dropper;
  pthread_create(&watcher, NULL, watch_handler, NULL);
  for (uint64_t page = 0; balloon && page < pages; page += 2 * OF_BALLOON)
    if (of_balloon(page)) touch(page);  // those that are there when they are dropped
  pthread_barrier_init(&start, NULL, vcpus + balloon);
  for (unsigned i = 0; i < vcpus; ++i)
    if (pthread_create(&threads[i], NULL, vcpu, (void*)(uint64_t)i) != 0) die("pthread_create");
  if (balloon) pthread_create(&dropper, NULL, drop, NULL);
  for (unsigned i = 0; i < vcpus; ++i) pthread_join(threads[i], NULL);
  if (balloon) pthread_join(dropper, NULL);
  double begin = begin_s[0], end = end_s[0];
  for (unsigned i = 1; i < vcpus; ++i) {
    if (begin_s[i] < begin) begin = begin_s[i];
    if (end_s[i] > end) end = end_s[i];
  }
  uint64_t wrong = 0, not_zero = 0;
  if (!no_check) check(&wrong, &not_zero);
  if (hold_ms != 0) usleep(hold_ms * 1000);
  bool left = atomic_load(&gone);
  printf("{\"pages\": %llu, \"seconds\": %.9f, \"wrong\": %llu, \"not_zero\": %llu, \"gone\": %s}\n",
         (unsigned long long)atomic_load(&touched), end - begin, (unsigned long long)wrong, (unsigned long long)not_zero,
         left ? "true" : "false");
  fflush(stdout);
  atomic_store(&done, true);
  pthread_join(watcher, NULL);
  exit(left ? 3 : wrong || not_zero ? 1 : 0);
}

static void take_options(int count, char** given) {
  if (count < 3) {
    fprintf(stderr, "vmm SOCKET SNAPSHOT [options]\n");
    exit(2);
  }
  socket_path = given[1];
  snapshot_path = given[2];
  for (int i = 3; i < count; ++i) {
    const char *name = given[i], *value = i + 1 < count ? given[i + 1] : "";
    if (strcmp(name, "--writes") == 0)
      writes = true;
    else if (strcmp(name, "--names-threads") == 0)
      names_threads = true;
    else if (strcmp(name, "--balloon") == 0)
      balloon = true;
    else if (strcmp(name, "--say-more") == 0)
      say_more = true;
    else if (strcmp(name, "--no-check") == 0)
      no_check = true;
    else {
      ++i;
      if (strcmp(name, "--memory") == 0)
        memory = value;
      else if (strcmp(name, "--order") == 0)
        order = value;
      else if (strcmp(name, "--message") == 0)
        message = value;
      else if (strcmp(name, "--text") == 0)
        text = value;
      else if (strcmp(name, "--regions") == 0)
        regions = (unsigned)atoi(value);
      else if (strcmp(name, "--vcpus") == 0)
        vcpus = (unsigned)atoi(value);
      else if (strcmp(name, "--die-after") == 0)
        die_after = (uint64_t)atoll(value);
      else if (strcmp(name, "--hold-ms") == 0)
        hold_ms = (unsigned)atoi(value);
      else if (strcmp(name, "--descriptors") == 0)
        descriptors = (unsigned)atoi(value);
      else {
        fprintf(stderr, "vmm: unknown option %s\n", name);
        exit(2);
      }
    }
  }
}

int main(int count, char** given) {
  take_options(count, given);
  int file = open(snapshot_path, O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0) die("the snapshot");
  if (strcmp(memory, "hugetlb") == 0) page_bytes = 2u << 20;
  bytes = (uint64_t)status.st_size;
  pages = bytes / page_bytes;
  snapshot = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
  if (snapshot == MAP_FAILED) die("mmap of the snapshot");
  map_guest();
  register_guest();
  shake_hands();
  run();
}
