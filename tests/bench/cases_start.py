"""How long commands take from the shell to their end: one run beside an empty Ray program with one actor; others."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.lines import Asked, Line
from tests.bench.pairs import interleave, interval, ratios

BAR = 1.25
HELP_BAR_S = 0.8
REPORT_BAR_S = 0.7
EMPTY_PROGRAM = """
import ray
ray.init(address="local", include_dashboard=False, log_to_driver=False)
@ray.remote(num_cpus=0)
class Nothing:
    def done(self):
        return True
assert ray.get(Nothing.remote().done.remote())
ray.shutdown()
"""


def seconds_of(*command: str) -> float:
    """Wall time of a command. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="ub-") as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - began


def compared(ours: Sequence[float], theirs: Sequence[float]) -> Line:
    """Met when the lower end of the interval of the ratio is at most the bar."""
    ratio = interval(ratios(ours, theirs))
    note = f"{interval(ours).median:.2f} s against {interval(theirs).median:.2f} s, {len(ours)} pairs"
    return Line("start", "one run / an empty Ray program", str(ratio), f"<= {BAR}", ratio.low <= BAR, note)


def one_run(asked: Asked) -> Iterator[Line]:
    """`loadgen strategy=no_uffd_wait vcpus=2` and the empty program, in turn."""
    loadgen = str(Path(sys.executable).parent / "loadgen")
    ours, theirs = interleave(
        lambda: seconds_of(loadgen, "strategy=no_uffd_wait", "vcpus=2"),
        lambda: seconds_of(sys.executable, "-c", EMPTY_PROGRAM),
        3 if asked.quick else max(5, asked.pairs // 2),
    )
    yield compared(ours, theirs)


def without_ray(asked: Asked) -> Iterator[Line]:
    """`loadgen --help`, and `table` and `show` of a data set of one run; met when the lower end of the interval is in the bar."""
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="ub-") as folder:
        run = [str(programs / "loadgen"), "strategy=no_uffd_wait", "measure_s=0", "--quiet"]
        subprocess.run(run, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        report, dataset = str(programs / "loadgen-report"), str(Path(folder, "outputs/dataset"))
        for name, bar_s, command in (
            ("loadgen --help", HELP_BAR_S, (run[0], "--help")),
            ("loadgen-report table", REPORT_BAR_S, (report, "table", dataset)),
            ("loadgen-report show", REPORT_BAR_S, (report, "show", dataset)),
        ):
            took = interval([seconds_of(*command) for _ in range(5 if asked.quick else max(9, asked.pairs))])
            yield Line("commands", f"{name}, seconds", str(took), f"<= {bar_s}", took.low <= bar_s)


CASES = {"start": one_run, "commands": without_ray}
