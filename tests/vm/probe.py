# SPDX-License-Identifier: GPL-2.0-or-later
"""What the program that runs this can do. Prints it as JSON: "works", or an error's name."""

import ctypes
import errno
import json
import mmap
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import libnetfilterqueue as nfq

LARGE = 1 << 26
CLONE_NEWUSER = 0x10000000
PTRACE_TRACEME = 0
SYS_INIT_MODULE = 175  # on x86_64, which the guests are

_libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def bind_queue() -> None:
    with nfq.open() as handle:
        handle.create_queue(9, print)


def enlarge() -> None:
    with nfq.open() as handle:
        handle.rcvbuf = LARGE
        if handle.rcvbuf < LARGE:
            raise OSError(errno.ENOBUFS, "")


def write(path: str) -> Callable[[], object]:
    return lambda: Path(path).write_text("")


def open_socket(family: int, kind: int) -> Callable[[], None]:
    return lambda: socket.socket(family, kind).close()


TRIED: dict[str, Callable[[], object]] = {
    "a queue": bind_queue,
    "a large receive buffer": enlarge,
    "the kernel's table": nfq.queue_status,
    "an IP socket": open_socket(socket.AF_INET, socket.SOCK_DGRAM),
    "a packet socket": open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "a UNIX socket": open_socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "reading /root": lambda: os.listdir("/root"),
    "writing /etc": write("/etc/probe"),
    "writing below /opt": write("/opt/dns-filter/probe"),
    "writing to /sys": write("/sys/kernel/mm/ksm/run"),
    "another process": lambda: os.listdir("/proc/1"),
    "a disk": lambda: os.open("/dev/mem", os.O_RDONLY),
    "a mount": lambda: check(_libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "a user namespace": lambda: check(_libc.unshare(CLONE_NEWUSER)),
    "another network namespace": lambda: nfq.open(netns="/proc/self/ns/net").close(),
    "becoming root": lambda: os.setuid(0),
    "code in writable memory": lambda: mmap.mmap(
        -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
    "the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "a kernel module": lambda: check(_libc.syscall(SYS_INIT_MODULE, b"", 0, b"")),
    "tracing": lambda: check(_libc.ptrace(PTRACE_TRACEME, 0, None, None)),
}


def attempt(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "works"


if __name__ == "__main__":
    print(json.dumps({name: attempt(action) for name, action in TRIED.items()}))
