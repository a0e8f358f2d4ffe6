"""The words that columns hold: statuses, roles of threads, and the stages of a fault."""

STATUSES = ("ok", "failed", "corrupt", "crashed", "stuck", "interrupted", "broken")

DISTURBERS = ("balloon", "migrator", "mmap_writer", "device")
"""Threads of disturbances."""

ROLES = ("vcpu", *DISTURBERS, "reader", "ring", "prefetch", "driver")
"""Whose a row of `threads` is: vCPUs, disturbances, the page server's readers, request rings and background stream, the driver's
process."""

STAGES_NS = ("intended_ns", "raised_ns", "delivered_ns", "fetched_ns", "installed_ns", "resumed_ns")
"""The times of a fault record, in the order they happen."""
