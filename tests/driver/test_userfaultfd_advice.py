"""The advice follows the errno and what was tried."""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys

import pytest

from loadgen.host.probe import Host
from loadgen.host.userfaultfd_advice import userfaultfd_advice

PROBE = "from loadgen.host.probe import probe; from loadgen.host.userfaultfd_advice import userfaultfd_advice; "


@pytest.mark.parametrize(
    ("refusals", "words"),
    [
        ((("device", "Permission denied"), ("syscall", "Operation not permitted")), "run as root, or give this user access"),
        ((("device", "Too many open files"), ("syscall", "Too many open files")), "too many open files: raise the limit"),
        ((("syscall", "Operation not permitted"), ("user_mode_only", "Operation not permitted")), "a seccomp filter refuses"),
        ((("syscall", "Function not implemented"), ("user_mode_only", "Function not implemented")), "CONFIG_USERFAULTFD=y"),
    ],
)
def test_what_helps_depends_on_how_the_kernel_refused(host: Host, refusals: tuple[tuple[str, str], ...], words: str) -> None:
    assert words in userfaultfd_advice(dataclasses.replace(host, userfaultfd_way="", userfaultfd_errors=refusals))


def test_a_process_without_a_free_descriptor_gets_the_fix_for_its_limit() -> None:
    code = (
        "import os, resource; from workers import _native; "
        f"{PROBE}host = probe(); resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1, 4096)); "
        "import dataclasses; errors = tuple(_native.probe_userfaultfd()['errors'].items()); "
        "print(userfaultfd_advice(dataclasses.replace(host, userfaultfd_errors=errors)))"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 4096
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert "too many open files" in done.stdout, done.stderr
