"""The limits beyond which a run is flagged as noisy: the driver judges by them, and `verify` checks `trusted` against them."""

from __future__ import annotations

JUDGED_FROM_S = 0.05
"""Shares of a shorter look are not judged: the calls that start and end a run weigh too much."""
MOST_OF_MACHINE = 0.10
"""Largest part of the machine's CPUs that the benchmark overhead may use, and so may other processes."""
MOST_STOLEN = 0.05
"""Largest part of the machine's CPU time that the hypervisor may take."""
MOST_LAG_S = 0.25
"""A status poll that comes later than this found a driver, or a page server, that did not get a CPU."""
MOST_SWITCHES_PER_S = 100.0
"""Most involuntary context switches of a thread in a second where each has a CPU of its own: a thread that has to share takes
turns of a few milliseconds, hundreds of times a second."""

SHARES = {"rig_cpu_share": MOST_OF_MACHINE, "other_cpu_share": MOST_OF_MACHINE, "steal_share": MOST_STOLEN}
"""By column of `runs`, in CPUs: the largest part of `machine_cpus`."""
