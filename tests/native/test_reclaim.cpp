// What is left of a page server that was killed: its claims by what the page table has, its pages that no account has.
#include "whole_guest.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kClaims = 16;

PageRecord record_of(const Vmm& vmm, Mapping& bytes) {
  bytes = Mapping::shared(vmm.record_fd(), kClaims);
  return PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data()));
}

}  // namespace

TEST("a claim of a killed page server is settled by the page table: mapped, a marker of poison or of swap, or nothing") {
  needs_poison();
  const Guest guest({.region_bytes = kClaims * 4096});
  std::vector<std::uint8_t> kinds(kClaims, static_cast<std::uint8_t>(Kind::minor));
  kinds[1] = static_cast<std::uint8_t>(Kind::poisoned);
  fill(guest, kinds);
  Vmm vmm(guest, {.strategy = "uffd_wait"});
  Mapping bytes;
  const PageRecord record = record_of(vmm, bytes);
  const Userfaultfd& uffd = *vmm.userfaultfds()[0];
  const auto at = [&](std::uint64_t page) { return vmm.shards()[0].address + page * 4096; };
  for (const std::uint64_t page : {1u, 2u, 3u, 4u}) CHECK(record.claim(page, PageRecord::reader_claim(0)));
  CHECK_EQUAL(uffd.poison(at(1), 4096, false).error, 0);
  CHECK_EQUAL(uffd.poison(at(2), 4096, false).error, 0);  // stands for a page in swap: pagemap has the same bit for both
  CHECK_EQUAL(uffd.resume(at(3), 4096, false).error, 0);
  CHECK_EQUAL(vmm.reclaim(), 4u);
  CHECK(record.state(1) == PageState::poisoned);
  CHECK(record.state(2) == PageState::resolved);
  CHECK(record.state(3) == PageState::resolved);
  CHECK(record.state(4) == PageState::unresolved);
}

TEST(
    "pages that a killed page server had installed and not counted are the first vCPU's: those no other mapping has, the "
    "guest's") {
  const Guest guest({.region_bytes = kClaims * 4096, .vcpus = 2, .vcpus_per_vmm = 1});
  fill(guest, std::vector<std::uint8_t>(kClaims, static_cast<std::uint8_t>(Kind::minor)));
  Vmm vmm(guest, {.strategy = "uffd_wait"});
  Mapping bytes;
  const PageRecord record = record_of(vmm, bytes);
  guest.succeed_server();
  for (const std::uint64_t page : {1u, 2u, 3u}) CHECK(record.resolve_unasked(page));
  CHECK(guest.first_resolved(2));
  guest.vcpu(0).resolved_by_reader.store(1);  // counted: one of them
  vmm.finish();
  CHECK_EQUAL(guest.vcpu(0).resolved_by_reader.load(), 3u);
  CHECK_EQUAL(guest.vcpu(0).first_by_reader.load(), 2u);
}

TEST("anonymous pages in swap are read in full beside a balloon, and not taken for dropped ones") {
  needs_poison();
  const Guest guest({.memory = MemoryType::anon, .region_bytes = kClaims * 4096, .drops = true});
  fill(guest, std::vector<std::uint8_t>(kClaims, static_cast<std::uint8_t>(Kind::absent)));
  Vmm vmm(guest, {.strategy = "uffd_wait"});
  Mapping bytes;
  const PageRecord record = record_of(vmm, bytes);
  for (const std::uint64_t page : {1u, 2u}) CHECK(record.resolve_unasked(page));
  // Stands for a page in swap, and shows by its SIGBUS that it was read.
  CHECK_EQUAL(vmm.userfaultfds()[0]->poison(vmm.shards()[0].address + 4096, 4096, false).error, 0);
  vmm.finish();
  const Verified verified = vmm.verify();
  CHECK_EQUAL(verified.gone, 1u);  // page 2, which is nowhere
  CHECK_EQUAL(verified.first_wrong, "page 1: reading it raised SIGBUS");
}
