"""What gives this process a userfaultfd, by what was tried and how the kernel refused it."""

from __future__ import annotations

import errno
import os

from loadgen.host.probe import Host

PRIVILEGE = (
    "run as root, or give this user access to /dev/userfaultfd (chmod or setfacl), or `sysctl vm.unprivileged_userfaultfd=1`"
)
OPEN_FILES = "this process has too many open files: raise the limit (`ulimit -n`)"
OPEN_FILES_OF_THE_HOST = "the host has too many open files: `sysctl fs.file-max` with a larger number"
FILTER = (
    "a seccomp filter refuses the system call, for user mode is open to every user: allow userfaultfd in it (containers: "
    "--security-opt seccomp=PROFILE, systemd: SystemCallFilter=userfaultfd), or pass /dev/userfaultfd in"
)
NO_KERNEL_SUPPORT = "this kernel was built without userfaultfd: use one with CONFIG_USERFAULTFD=y"
USER_MODE = "user_mode_only"
"""The way for faults of user mode only: the kernel permits it to every process."""


def userfaultfd_advice(host: Host) -> str:
    """What to do where there is no userfaultfd, or one for faults of user mode only."""
    refusals = dict(host.userfaultfd_errors)
    by_text = {
        os.strerror(errno.EMFILE): OPEN_FILES,
        os.strerror(errno.ENFILE): OPEN_FILES_OF_THE_HOST,
    }
    for text in refusals.values():
        if text in by_text:
            return by_text[text]
    if refusals.get(USER_MODE) == os.strerror(errno.ENOSYS):
        return NO_KERNEL_SUPPORT
    return FILTER if USER_MODE in refusals else PRIVILEGE
