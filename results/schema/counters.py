"""Columns that several tables have: the counters, and the mmap_lock by cause."""

from __future__ import annotations

from results.schema.column import COUNT, Column

COUNTERS = (
    Column("trips", COUNT, "exits", "exits to user space with their handling"),
    Column("trips_resolved", COUNT, "exits", "exits that installed their page"),
    Column("trips_lost", COUNT, "exits", "exits whose resolve returned EEXIST: another thread resolved the page first"),
    Column("trips_stopped", COUNT, "exits", "exits while the run was being stopped"),
    Column("lost_races", COUNT, "accesses", "accesses whose page another thread resolved first"),
    Column("eexist", COUNT, "calls", "resolve calls that returned EEXIST"),
    Column("eagain", COUNT, "calls", "resolve calls that returned EAGAIN: layout changing, or partial"),
    Column("partial", COUNT, "calls", "resolve calls that did part of their block"),
    Column("efault", COUNT, "calls", "resolve calls that returned EFAULT: the contents were missing"),
    Column("esrch", COUNT, "calls", "resolve calls that returned ESRCH: the process had exited"),
    Column("resolved_again", COUNT, "pages", "pages dropped or swapped out and installed again, by an exit or for an event"),
    Column("retries", COUNT, "exits", "exits answered by running again"),
    Column("populate_ok", COUNT, "calls", "MADV_POPULATE_WRITE calls that succeeded"),
    Column("populate_failed", COUNT, "calls", "MADV_POPULATE_WRITE calls that failed"),
    Column("memory_errors", COUNT, "accesses", "accesses to poisoned contents"),
    Column("pages_poisoned", COUNT, "pages", "pages that UFFDIO_POISON poisoned, in each mapping"),
    Column("page_waits", COUNT, "sleeps", "sleeps of an exiting vCPU until a page that another thread had in flight was settled"),
    Column("requests", COUNT, "messages", "pages requested from the page server through the ring"),
    Column("requests_failed", COUNT, "messages", "requests answered with an error"),
    Column("events", COUNT, "events", "page-fault events read from userfaultfds"),
    Column("events_resolved", COUNT, "events", "events answered by installing a page"),
    Column("events_lost", COUNT, "events", "events whose page was mapped already, answered by a wake-up"),
    Column("events_poisoned", COUNT, "events", "events answered by poisoning a page"),
    Column("events_dropped", COUNT, "events", "events not answered: the run was being stopped, or the process had exited"),
    Column("reads", COUNT, "calls", "reads that returned at least one event"),
    Column("reads_empty", COUNT, "calls", "reads that returned no event: none was pending, or another reader took it"),
    Column("wakes", COUNT, "calls", "UFFDIO_WAKE calls"),
    Column("deferred", COUNT, "events", "events deferred because their page was in flight"),
    Column("fetched_pages", COUNT, "pages", "pages whose contents the page server fetched"),
    Column("delays", COUNT, "fetches", "fetches with a service delay"),
    Column("delay_ns", COUNT, "ns", "achieved delays of those fetches, summed"),
    Column("prefetched_pages", COUNT, "pages", "pages the prefetcher installed; file_map: read into the page cache"),
    Column("prefetch_late", COUNT, "pages", "pages already in flight when the prefetcher was to install them"),
    Column(
        "prefetch_skipped", COUNT, "pages", "pages touched before the prefetcher came to them; prefetch_late on top"
    ),
    Column("served_pages", COUNT, "pages", "pages of a foreign VMM installed for an event, each counted once"),
    Column("zero_pages", COUNT, "pages", "pages of a foreign VMM installed as zeros, by UFFDIO_ZEROPAGE"),
    Column("populate_waits", COUNT, "events", "events of a vCPU asleep inside its own MADV_POPULATE_WRITE"),
    Column("stray_waits", COUNT, "accesses", "accesses that slept in the kernel under a strategy meant to avoid it"),
    Column("unknown_events", COUNT, "events", "events outside every region or of a kind not asked for"),
    Column("abandoned", COUNT, "accesses", "accesses abandoned because the run was stopped"),
    Column("records_dropped", COUNT, "faults", "faults without a slot left for their record"),
    Column("eagain_changing", COUNT, "calls", "of eagain, nothing done: a remove event pending, or the layout changing"),
    Column("contents_lost", COUNT, "runs", "blocks with a page whose contents were missing and were fetched again"),
    Column("removes", COUNT, "events", "remove events read"),
    Column("pages_discarded", COUNT, "pages", "pages that remove events marked as discarded in the page record"),
    Column("device_waits", COUNT, "events", "events of threads that are not vCPUs: devices, which cannot exit"),
    Column("device_resolved", COUNT, "pages", "pages resolved for device_waits; not in pages_resolved of any vCPU"),
    Column("pages_dropped", COUNT, "pages", "pages the balloon dropped"),
    Column("compactions", COUNT, "calls", "compactions the migrator started that completed"),
    Column("blocks_offlined", COUNT, "blocks", "memory blocks the migrator took offline and brought back"),
    Column("pages_migrated", COUNT, "pages", "guest pages that had another frame afterwards"),
    Column("maps", COUNT, "calls", "pairs of mmap and munmap"),
    Column("device_accesses", COUNT, "accesses", "accesses of devices, by system call"),
    Column("device_sleeps", COUNT, "accesses", "device_accesses that slept in the kernel, for the page or for the mmap_lock"),
    Column("device_refused", COUNT, "accesses", "device_accesses that returned EFAULT on a UFFD_FEATURE_SIGBUS mapping"),
    Column("device_poisoned", COUNT, "accesses", "device_accesses that returned EFAULT because the page is poisoned"),
    Column("emulated_probes_missed", COUNT, "calls", "emulated exits: pagemap reads that found no PTE"),
    Column("emulated_probes_found", COUNT, "calls", "emulated stage-2 violations: pagemap reads that found the page"),
    Column("emulated_signals", COUNT, "signals", "emulated exits: SIGBUS at the touch"),
    Column("emulated_populates_refused", COUNT, "calls", "emulated exits: MADV_POPULATE_WRITE before the touch, refused"),
    Column("emulated_populates_done", COUNT, "calls", "emulated stage-2 violations: MADV_POPULATE_WRITE before the touch, done"),
)

LOCK_READS = tuple(
    Column(f"mmap_lock_reads_{cause}", COUNT, "locks", f"of a vCPU's mmap_lock_reads, those taken by {what}")
    for cause, what in (
        ("probe", "the emulated fast GUP, which reads pagemap"),
        ("populate", "MADV_POPULATE_WRITE"),
        ("resolve", "resolve calls"),
        ("fault", "the kernel's own page faults"),
    )
)
