"""A seccomp filter that refuses userfaultfds, as that of a container does: installed for real, in a child before it starts."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Callable

import pytest

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
USERFAULTFD_IOC_NEW = 0xAA00
SYSTEM_CALLS = {"x86_64": (323, 16), "aarch64": (282, 29)}
"""Numbers of userfaultfd and ioctl."""

LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
NUMBER_AT, SECOND_ARGUMENT_AT = 0, 24


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def refusing() -> Callable[[], None]:
    """Makes this process and what it starts be refused with EPERM: userfaultfd(2), and USERFAULTFD_IOC_NEW."""
    if platform.machine() not in SYSTEM_CALLS:
        pytest.skip(f"no numbers of system calls are known for {platform.machine()}")
    userfaultfd, ioctl = SYSTEM_CALLS[platform.machine()]
    instructions = [
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_IF_EQUAL, 3, 0, userfaultfd),
        (JUMP_IF_EQUAL, 0, 3, ioctl),
        (LOAD, 0, 0, SECOND_ARGUMENT_AT),
        (JUMP_IF_EQUAL, 0, 1, USERFAULTFD_IOC_NEW),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *one) for one in instructions)
    program = Program(len(instructions), code)
    libc = ctypes.CDLL(None, use_errno=True)

    def install() -> None:
        for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)):
            if libc.prctl(*arguments) != 0:
                raise OSError(ctypes.get_errno(), "prctl")

    return install
