# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the programs that have netlink sockets."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from libnetfilterqueue.cli._text import printable

NETLINK_NETFILTER = 12


class Program(NamedTuple):
    """A process."""

    pid: int
    command: str
    """Its command line."""


def find_programs() -> dict[int, Program]:
    """The programs by the port ids of their sockets, as far as /proc tells.

    The kernel's table names a socket's inode (proc_pid_net(5)), and /proc/PID/fd who has it open.
    After a fork that may be several; the oldest is taken.
    """
    portids = dict(_netfilter_sockets())
    found: dict[int, Program] = {}
    for directory in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        for inode in _socket_inodes(directory):
            if inode in portids:
                found.setdefault(portids[inode], Program(int(directory.name), _command(directory)))
    return found


def _netfilter_sockets() -> Iterator[tuple[str, int]]:
    """The inodes and port ids of the network namespace's sockets."""
    heading, *lines = Path("/proc/thread-self/net/netlink").read_text().splitlines()
    for line in lines:
        fields = dict(zip(heading.split(), line.split(), strict=True))
        if int(fields["Eth"]) == NETLINK_NETFILTER:
            yield fields["Inode"], int(fields["Pid"])


def _socket_inodes(directory: Path) -> Iterator[str]:
    """Those of a process that has not ended and is not hidden from us."""
    with contextlib.suppress(PermissionError, FileNotFoundError, ProcessLookupError):
        for descriptor in (directory / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has been closed since
                kind, _, inode = str(descriptor.readlink()).partition(":")
                if kind == "socket":
                    yield inode.strip("[]")


def _command(directory: Path) -> str:
    """A process's command line, which it chooses itself."""
    try:
        words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return printable(" ".join(words).strip())
