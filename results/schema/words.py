"""The words that columns hold: statuses, roles of threads, kinds, outcomes and stages of a fault."""

STATUSES = ("ok", "failed", "corrupt", "crashed", "stuck", "interrupted", "broken")

DISTURBERS = ("balloon", "migrator", "mmap_writer", "device")
"""Threads of disturbances."""

ROLES = ("vcpu", "vmm", *DISTURBERS, "reader", "ring", "prefetch", "handler", "driver")
"""Whose a row of `threads` is: vCPUs, disturbances, the page server's readers, request rings and background stream, an external
handler's threads, the driver's process."""

KINDS = ("hit", "minor", "absent", "swapped", "poisoned")
"""States in which pages are prepared."""

OUTCOMES = ("resolved", "waited", "lost_race", "populated", "kernel", "memory_error", "abandoned", "external")
"""How a fault ends."""

STAGES_NS = ("intended_ns", "raised_ns", "delivered_ns", "fetched_ns", "installed_ns", "resumed_ns")
"""The times of a fault record, in the order they happen."""
