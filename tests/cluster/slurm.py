"""Slurm on one node, from Debian's packages: its daemons on a machine of the test's own, gone with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import needs
from tests.cluster.machines import Machine, lone_machine, require_machines
from tests.e2e.command import environment, run_program

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo")
START_S = 60.0

CONFIGURATION = """\
ClusterName=loadgen
SlurmctldHost={name}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={name} NodeAddr={address} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
"""Two jobs have room beside each other, whatever CPUs there are."""


def require_slurm() -> None:
    """Skip the test by name where Slurm is not installed, or its daemons cannot be given a machine."""
    require_machines()
    needs.programs("slurm-wlm munge", *PROGRAMS, path=f"{os.environ['PATH']}:/usr/sbin")


@dataclass(frozen=True)
class Slurm:
    """One that takes jobs. `settings`: environment variables that its commands need."""

    machine: Machine
    settings: dict[str, str]

    def run(self, *arguments: str, folder: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command where jobs can be submitted."""
        return run_program(folder, *self.machine.command(*arguments), timeout_s=timeout_s, settings=self.settings)


@contextlib.contextmanager
def slurm(folder: str) -> Iterator[Slurm]:
    """Its daemons, with everything they write in `folder`, and a node that is idle."""
    os.chmod(folder, 0o755)  # munged requires its socket to be within every user's reach
    key = Path(folder, "munge.key")
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    configuration = Path(folder, "slurm.conf")
    with contextlib.ExitStack() as ended, lone_machine("slurm") as machine:
        configuration.write_text(CONFIGURATION.format(name=machine.name, address=machine.address, folder=folder))
        found = Slurm(machine, {"SLURM_CONF": str(configuration), "PATH": f"{os.environ['PATH']}:/usr/sbin"})
        files = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "log", "pid", "seed")]
        munged = ["munged", "--foreground", f"--socket={folder}/munge.socket", *files]
        for daemon in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", machine.name]):
            ended.callback(_started(found, folder, daemon).wait)
        _wait_until_idle(found, Path(folder))
        yield found


def _started(at: Slurm, folder: str, daemon: list[str]) -> subprocess.Popen[bytes]:
    with Path(folder, f"{daemon[0]}.log").open("wb") as output:
        return subprocess.Popen(
            at.machine.command(*daemon), cwd=folder, env=environment() | at.settings, stdout=output, stderr=output
        )


def _wait_until_idle(at: Slurm, folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while at.run("sinfo", "--noheader", "--format=%T", folder=folder, timeout_s=30).stdout.strip() != "idle":
        said = {log.name: log.read_text(errors="replace")[-1000:] for log in folder.glob("*.log")}
        assert time.monotonic() < deadline, f"Slurm's node is not idle: {said}"
        time.sleep(0.2)
