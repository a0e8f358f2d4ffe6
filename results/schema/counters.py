"""Columns that several tables have: the counters, and the mmap_lock by cause."""

from __future__ import annotations

from results.schema.column import COUNT, Column

COUNTERS = (
    Column("trips", COUNT, "exits", "exits to user space with their handling"),
    Column("trips_resolved", COUNT, "exits", "exits that installed their page"),
    Column("trips_lost", COUNT, "exits", "exits whose resolve said EEXIST: somebody else was faster"),
    Column("trips_stopped", COUNT, "exits", "exits while the run was being stopped"),
    Column("lost_races", COUNT, "accesses", "somebody else resolved the page first"),
    Column("eexist", COUNT, "calls", "resolving calls that said EEXIST"),
    Column("eagain", COUNT, "calls", "resolving calls that said EAGAIN: layout changing, or partial"),
    Column("partial", COUNT, "calls", "resolving calls that did part of their block"),
    Column("efault", COUNT, "calls", "resolving calls that said EFAULT: the contents were not there"),
    Column("esrch", COUNT, "calls", "resolving calls for a process that was gone"),
    Column("resolved_again", COUNT, "pages", "pages taken away and installed once more, by an exit or for an event"),
    Column("retries", COUNT, "exits", "exits answered by running again"),
    Column("populate_ok", COUNT, "calls", "populating calls that did their work"),
    Column("populate_failed", COUNT, "calls", "populating calls that failed"),
    Column("memory_errors", COUNT, "accesses", "accesses to poisoned contents"),
    Column("pages_poisoned", COUNT, "pages", "pages that UFFDIO_POISON poisoned, in each mapping"),
    Column("requests", COUNT, "messages", "pages asked of the page server through the ring"),
    Column("requests_failed", COUNT, "messages", "requests answered with an error"),
    Column("events", COUNT, "events", "page-fault events read from userfaultfds"),
    Column("events_resolved", COUNT, "events", "events a page was installed for"),
    Column("events_lost", COUNT, "events", "events whose page was mapped already: the sleeper was only woken"),
    Column("events_poisoned", COUNT, "events", "events a page was poisoned for"),
    Column("events_dropped", COUNT, "events", "events not answered: the run was being stopped, or the process had gone"),
    Column("reads", COUNT, "calls", "reads that returned at least one event"),
    Column("reads_empty", COUNT, "calls", "reads that found nothing: none was left, or another reader had been faster"),
    Column("wakes", COUNT, "calls", "UFFDIO_WAKE"),
    Column("deferred", COUNT, "events", "events put off because the page was in somebody's hands"),
    Column("fetched_pages", COUNT, "pages", "contents made by the page server"),
    Column("delays", COUNT, "fetches", "fetches delayed on purpose"),
    Column("delay_ns", COUNT, "ns", "achieved delays of those fetches, summed"),
    Column("prefetched_pages", COUNT, "pages", "pages the background stream installed; file_map: read into the page cache"),
    Column("prefetch_late", COUNT, "pages", "pages that somebody else had in hand when the stream came to install them"),
    Column("populate_waits", COUNT, "events", "events of a vCPU asleep inside its own MADV_POPULATE_WRITE"),
    Column("stray_waits", COUNT, "accesses", "accesses that slept in the kernel under a strategy meant to avoid it"),
    Column("unknown_events", COUNT, "events", "events outside every region or of a kind not asked for"),
    Column("abandoned", COUNT, "accesses", "accesses given up because the run was stopped"),
    Column("records_dropped", COUNT, "faults", "faults without a slot left for their record"),
    Column("eagain_changing", COUNT, "calls", "of eagain, nothing done: a remove event pending, or the layout changing"),
    Column("contents_lost", COUNT, "runs", "runs of pages with one whose contents were found gone, and made again"),
    Column("removes", COUNT, "events", "remove events read"),
    Column("pages_discarded", COUNT, "pages", "pages of the record that they marked as dropped"),
    Column("device_waits", COUNT, "events", "events of threads that are no vCPU: devices, which cannot exit"),
    Column("device_resolved", COUNT, "pages", "pages resolved for them; no vCPU's pages_resolved has these"),
    Column("pages_dropped", COUNT, "pages", "pages the balloon took away"),
    Column("compactions", COUNT, "calls", "compactions the migrator had the kernel do, that came to their end"),
    Column("blocks_offlined", COUNT, "blocks", "memory blocks the migrator took offline and brought back"),
    Column("pages_migrated", COUNT, "pages", "guest pages that had another frame afterwards"),
    Column("maps", COUNT, "calls", "pairs of mmap and munmap"),
    Column("device_accesses", COUNT, "accesses", "accesses of devices, by system call"),
    Column("device_sleeps", COUNT, "accesses", "of them, slept in the kernel: until the page was there, or for the mmap_lock"),
    Column("device_refused", COUNT, "accesses", "of device_accesses, EFAULT because the mapping refuses to sleep"),
    Column("device_poisoned", COUNT, "accesses", "of device_accesses, EFAULT because the page is poisoned"),
)

LOCK_READS = tuple(
    Column(f"mmap_lock_reads_{cause}", COUNT, "locks", f"of a vCPU's mmap_lock_reads, those taken by {what}")
    for cause, what in (
        ("probe", "the emulated fast GUP, which reads pagemap"),
        ("populate", "MADV_POPULATE_WRITE"),
        ("resolve", "resolving calls"),
        ("fault", "the kernel's own page faults"),
    )
)
