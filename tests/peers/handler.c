// A fault handler for the published handshake, written from its description alone: it shares no line with the core. It serves the
// pages of a snapshot file to whoever connects and hands it a userfaultfd. --fault makes it break in one of the ways that handlers
// break.
//
// handler SOCKET SNAPSHOT [--serves-many] [--prefetch] [--after N] [--fault KIND[=VALUE]]
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef UFFDIO_POISON  // of Linux 6.6
struct uffdio_poison {
  struct uffdio_range range;
  uint64_t mode;
  int64_t updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

enum { MOST_REGIONS = 64, MOST_PEERS = 80, MOST_MESSAGE = 4096, MOST_PENDING = 4096, SKIP_ONE_OF = 100 };

struct region {
  uint64_t base, size, offset, page;
};

struct peer {
  int connection, uffd;
  struct region regions[MOST_REGIONS];
  size_t region_count;
  uint64_t page;            // of all its regions
  unsigned char *state;     // a byte a page of the snapshot
  uint64_t pending[MOST_PENDING];  // offsets whose copy said EAGAIN
  size_t pending_count;
  uint64_t next;            // offset that the prefetcher goes on from
};

enum { UNTOUCHED, BROUGHT, REMOVED };

static const char *snapshot;
static uint64_t snapshot_bytes;
static bool serves_many, prefetch;
static const char *fault = "";
static long fault_value, after = 20;
static long answered;
static struct peer peers[MOST_PEERS];
static size_t peer_count;
static unsigned char *spare;  // one page of the largest size

static void die(const char *what) {
  fprintf(stderr, "handler: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void refuse(const char *what) {
  fprintf(stderr, "handler: refused: %s\n", what);
  exit(4);
}

static bool breaks(const char *kind) { return strcmp(fault, kind) == 0; }

// The message: an array of flat objects with numbers; keys that are not known are passed over.
static const char *space(const char *at) {
  while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') ++at;
  return at;
}

static const char *number(const char *at, uint64_t *value) {
  char *end;
  errno = 0;
  *value = strtoull(at, &end, 10);
  if (end == at || errno != 0) refuse("a value is no number");
  return end;
}

static const char *object(const char *at, struct region *region) {
  bool more = true;
  memset(region, 0, sizeof *region);
  if (*at++ != '{') refuse("a region is no object");
  while (more) {
    char key[64];
    uint64_t value;
    size_t length = 0;
    at = space(at);
    if (*at++ != '"') refuse("a key is no string");
    while (*at != '"' && *at != 0 && length + 1 < sizeof key) key[length++] = *at++;
    key[length] = 0;
    if (*at++ != '"') refuse("a key does not end");
    at = space(at);
    if (*at++ != ':') refuse("a key without a value");
    at = space(number(space(at), &value));
    if (strcmp(key, "base_host_virt_addr") == 0) region->base = value;
    if (strcmp(key, "size") == 0) region->size = value;
    if (strcmp(key, "offset") == 0) region->offset = value;
    if (strcmp(key, "page_size") == 0 || strcmp(key, "page_size_kib") == 0) region->page = value;
    more = *at == ',';
    if (!more && *at != '}') refuse("an object does not end");
    ++at;
  }
  return space(at);
}

static void read_regions(struct peer *peer, const char *text) {
  const char *at = space(text);
  uint64_t sum = 0;
  if (*at++ != '[') refuse("the message is no array");
  for (at = space(at); *at == '{';) {
    if (peer->region_count == MOST_REGIONS) refuse("too many regions");
    struct region *region = &peer->regions[peer->region_count++];
    at = object(at, region);
    if (region->page == 0 || region->size % region->page != 0 || region->offset + region->size > snapshot_bytes)
      refuse("a region does not fit the snapshot");
    peer->page = region->page;
    sum += region->size;
    if (*at == ',') at = space(at + 1);
  }
  if (*at != ']') refuse("the array does not end");
  if (sum != snapshot_bytes) refuse("the regions do not sum to the snapshot's size");
}

// False in the child.
static bool serve_in_a_child(void) {
  const pid_t child = fork();
  if (child < 0) die("fork");
  return child != 0;
}

static void accept_peer(int listener) {
  char text[MOST_MESSAGE + 1] = {0};
  char control[CMSG_SPACE(3 * sizeof(int))];
  struct iovec iov = {text, MOST_MESSAGE};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct peer *peer = &peers[peer_count];
  int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (connection < 0) die("accept");
  if (breaks("refuses")) {
    close(connection);
    return;
  }
  if (peer_count == MOST_PEERS) refuse("too many peers");
  const ssize_t got = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
  if (got <= 0) refuse("no message");
  const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header == NULL || header->cmsg_type != SCM_RIGHTS) refuse("no descriptor");
  if (header->cmsg_len != CMSG_LEN(sizeof(int))) refuse("more than one descriptor");
  memset(peer, 0, sizeof *peer);
  memcpy(&peer->uffd, CMSG_DATA(header), sizeof(int));
  peer->connection = connection;
  read_regions(peer, text);
  peer->state = calloc(snapshot_bytes / peer->page + 1, 1);
  ++peer_count;
  if (breaks("asks-to-map")) {
    static const char asked[] = "{\"map\": {\"offset\": 0, \"size\": 4096}}";
    if (write(connection, asked, sizeof asked - 1) < 0) die("write");
  }
  if (breaks("child-dies") && serve_in_a_child()) {
    if (fault_value == 0) {
      close(connection);
      close(peer->uffd);
    }
    while (true) pause();
  }
}

static const struct region *region_of(const struct peer *peer, uint64_t address, uint64_t *offset) {
  for (size_t i = 0; i < peer->region_count; ++i) {
    const struct region *region = &peer->regions[i];
    if (address - region->base < region->size) {
      *offset = (address - region->base) / peer->page * peer->page + region->offset;
      return region;
    }
  }
  return NULL;
}

static uint64_t address_of(const struct peer *peer, uint64_t offset) {
  for (size_t i = 0; i < peer->region_count; ++i)
    if (offset - peer->regions[i].offset < peer->regions[i].size) return peer->regions[i].base + offset - peer->regions[i].offset;
  refuse("a page in no region");
  return 0;
}

// 0, or the errno.
static int copy(const struct peer *peer, uint64_t offset, const void *from) {
  struct uffdio_copy request = {.dst = address_of(peer, offset), .src = (uintptr_t)from, .len = peer->page};
  return ioctl(peer->uffd, UFFDIO_COPY, &request) == 0 ? 0 : errno;
}

static void wake(const struct peer *peer, uint64_t offset) {
  struct uffdio_range range = {.start = address_of(peer, offset), .len = peer->page};
  ioctl(peer->uffd, UFFDIO_WAKE, &range);
}

static bool answers_badly(void) {
  return breaks("wakes-only") || breaks("zeropage") || breaks("half-page") || breaks("poisons") || breaks("next-page");
}

// 0, or an errno that is no answer either.
static int answer_badly(const struct peer *peer, uint64_t offset) {
  const uint64_t at = address_of(peer, offset);
  struct uffdio_zeropage zero = {.range = {at, peer->page}};
  struct uffdio_copy half = {.dst = at, .src = (uintptr_t)(snapshot + offset), .len = peer->page / 2};
  struct uffdio_poison poison = {.range = {at, peer->page}};
  if (breaks("wakes-only")) wake(peer, offset);
  if (breaks("zeropage")) ioctl(peer->uffd, UFFDIO_ZEROPAGE, &zero);
  if (breaks("half-page")) ioctl(peer->uffd, UFFDIO_COPY, &half);
  if (breaks("poisons")) ioctl(peer->uffd, UFFDIO_POISON, &poison);
  if (breaks("next-page")) return copy(peer, offset, snapshot + (offset + peer->page) % snapshot_bytes);
  return 0;
}

static const void *contents(const struct peer *peer, uint64_t offset) {
  const bool forgets = breaks("forgets-removes") || breaks("restores-removes");
  if ((peer->state[offset / peer->page] == REMOVED && !forgets) || (breaks("zero-page") && answered >= after)) {
    memset(spare, 0, peer->page);
    return spare;
  }
  if (breaks("wrong-byte") && answered >= after) {
    memcpy(spare, snapshot + offset, peer->page);
    for (uint64_t at = 0; at < peer->page; at += 8) spare[at] ^= 0x10;  // in every word, so that the one touched is wrong
    return spare;
  }
  return snapshot + offset;
}

// False: a remove event is pending, ask again.
static bool bring(struct peer *peer, uint64_t offset) {
  unsigned char *state = &peer->state[offset / peer->page];
  const int error = answered > after && answers_badly() ? answer_badly(peer, offset) : copy(peer, offset, contents(peer, offset));
  if (error == EAGAIN) return breaks("ignores-eagain");
  if (error == EEXIST && serves_many) wake(peer, offset);  // another mapping of the same memory has made the page
  if (error != 0 && error != EEXIST && error != ESRCH && error != ENOENT) {
    errno = error;
    die("UFFDIO_COPY");
  }
  if (*state == UNTOUCHED) *state = BROUGHT;
  return true;
}

static void break_down(struct peer *peer) {
  if (breaks("exits")) {
    fprintf(stderr, "handler: the disk of the snapshot is gone\n");
    exit((int)fault_value);
  }
  if (breaks("signal")) {
    signal((int)fault_value, SIG_DFL);
    kill(getpid(), (int)fault_value);
  }
  if (breaks("child-dies")) exit(1);
  if (breaks("freezes")) kill(getpid(), SIGSTOP);
  if (breaks("closes")) {
    close(peer->uffd);
    peer->uffd = -1;
  }
  if (breaks("unregisters"))
    for (size_t i = 0; i < peer->region_count; ++i) {
      struct uffdio_range range = {.start = peer->regions[i].base, .len = peer->regions[i].size};
      ioctl(peer->uffd, UFFDIO_UNREGISTER, &range);
    }
}

static void page_fault(struct peer *peer, uint64_t address) {
  uint64_t offset;
  if (region_of(peer, address, &offset) == NULL) refuse("a fault in no region");
  if (breaks("skips") && answered % SKIP_ONE_OF == SKIP_ONE_OF - 1) {
    ++answered;
    return;
  }
  if (answered == after) break_down(peer);
  ++answered;
  if (peer->uffd < 0) return;
  if (!bring(peer, offset) && peer->pending_count < MOST_PENDING) peer->pending[peer->pending_count++] = offset;
}

static void removed(struct peer *peer, uint64_t start, uint64_t end) {
  uint64_t offset;
  for (uint64_t at = start; at < end; at += peer->page)
    if (region_of(peer, at, &offset) != NULL) {
      peer->state[offset / peer->page] = REMOVED;
      if (breaks("restores-removes") && peer->pending_count < MOST_PENDING) peer->pending[peer->pending_count++] = offset;
    }
}

static void read_events(struct peer *peer) {
  struct uffd_msg messages[16];
  const ssize_t got = read(peer->uffd, messages, sizeof messages);
  if (got < 0) {
    if (errno != EAGAIN) die("read of the userfaultfd");
    return;
  }
  for (size_t i = 0; i < (size_t)got / sizeof messages[0]; ++i) {  // removes first: a fault behind one must read zeros
    const struct uffd_msg *one = &messages[i];
    if (one->event == UFFD_EVENT_REMOVE) removed(peer, one->arg.remove.start, one->arg.remove.end);
  }
  for (size_t i = 0; i < (size_t)got / sizeof messages[0] && peer->uffd >= 0; ++i)
    if (messages[i].event == UFFD_EVENT_PAGEFAULT) page_fault(peer, messages[i].arg.pagefault.address);
}

static void try_again(struct peer *peer) {
  size_t kept = 0;
  for (size_t i = 0; i < peer->pending_count; ++i)
    if (!bring(peer, peer->pending[i])) peer->pending[kept++] = peer->pending[i];
  peer->pending_count = kept;
}

// One page that was not asked for. False: there is none left.
static bool bring_ahead(struct peer *peer) {
  while (peer->next < snapshot_bytes && peer->state[peer->next / peer->page] != UNTOUCHED) peer->next += peer->page;
  if (peer->next >= snapshot_bytes) return false;
  if (bring(peer, peer->next)) peer->next += peer->page;
  return true;
}

static void serve(int listener) {
  while (true) {
    struct pollfd polled[MOST_PEERS + 1];
    bool busy = false;
    for (size_t i = 0; i < peer_count; ++i) {
      polled[i] = (struct pollfd){peers[i].uffd, POLLIN, 0};
      if (peers[i].uffd < 0) continue;
      try_again(&peers[i]);
      busy |= peers[i].pending_count != 0 || (prefetch && bring_ahead(&peers[i]));
    }
    const bool listens = serves_many || peer_count == 0;
    polled[peer_count] = (struct pollfd){listens ? listener : -1, POLLIN, 0};
    const size_t count = peer_count;
    if (poll(polled, count + 1, busy ? 0 : -1) < 0) die("poll");
    for (size_t i = 0; i < count; ++i)
      if (polled[i].revents & POLLIN) read_events(&peers[i]);
    if (polled[count].revents & POLLIN) accept_peer(listener);
  }
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) die("socket");
  if (strlen(path) >= sizeof address.sun_path) refuse("the socket's path is too long");
  strcpy(address.sun_path, path);
  unlink(path);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) die(path);
  if (listen(listener, 16) != 0) die("listen");
  return listener;
}

// A supervisor of its own: the handler is started again when it has died.
static void supervise(void) {
  while (true) {
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) return;
    if (waitpid(child, NULL, 0) < 0) die("waitpid");
    fprintf(stderr, "handler: died, started again\n");
  }
}

static void take_options(int count, char **given) {
  for (int i = 3; i < count; ++i) {
    if (strcmp(given[i], "--serves-many") == 0) {
      serves_many = true;
    } else if (strcmp(given[i], "--prefetch") == 0) {
      prefetch = true;
    } else if (strcmp(given[i], "--after") == 0 && i + 1 < count) {
      after = atol(given[++i]);
    } else if (strcmp(given[i], "--fault") == 0 && i + 1 < count) {
      char *value = strchr(given[++i], '=');
      fault = given[i];
      if (value != NULL) {
        fault_value = atol(value + 1);
        *value = 0;
      }
    } else {
      refuse("an unknown option");
    }
  }
}

// A version with what a terminal would take for commands, and no end of its line; then megabytes of stderr.
static void print_badly(void) {
  printf("\n\033[31mtest\033]0;title\a handler\t1.0 \xff");
  for (long i = 0; i < fault_value << 10; ++i) fprintf(stderr, "%01023ld\n", i);
  fprintf(stderr, "\033[1mthe last\rline\b\n");
}

int main(int count, char **given) {
  struct stat status;
  if (count < 3) {
    fprintf(stderr, "usage: %s SOCKET SNAPSHOT [--serves-many] [--prefetch] [--after N] [--fault KIND[=VALUE]]\n", given[0]);
    return 64;
  }
  take_options(count, given);
  if (breaks("prints"))
    print_badly();
  else
    printf("test handler 1.0\n");
  fflush(stdout);
  if (breaks("exits-at-once")) {
    fprintf(stderr, "handler: bad magic in the snapshot\n");
    return (int)fault_value;
  }
  const pid_t parent = getpid();
  if (breaks("daemon") && fork() != 0) return 0;
  while (breaks("daemon") && getppid() == parent) usleep(1000);
  if (breaks("never-listens"))
    while (true) pause();
  if (breaks("restarts")) {
    supervise();
    fault = "signal";
    fault_value = SIGKILL;
  }
  const int file = open(given[2], O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &status) != 0) die(given[2]);
  snapshot_bytes = (uint64_t)status.st_size;
  snapshot = mmap(NULL, snapshot_bytes, PROT_READ, MAP_PRIVATE, file, 0);
  spare = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (snapshot == MAP_FAILED || spare == MAP_FAILED) die("mmap");
  serve(listen_at(given[1]));
}
