# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps the descriptors that a program hands over: its end of the protocol of sd_notify(3)."""

import contextlib
import os
import secrets
import socket
import struct
from array import array
from collections.abc import Iterable
from typing import NamedTuple

MOST = 253  # SCM_MAX_FD: descriptors of one message
LONGEST = 255  # FDNAME_MAX: characters of a name
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Stored(NamedTuple):
    """A descriptor and its name."""

    name: str
    descriptor: int


def checked(name: str | None) -> str | None:
    """The name, if systemd would take it: in LISTEN_FDNAMES colons are between names."""
    if name is None or ":" in name or len(name) > LONGEST:
        return None
    return name if name.isascii() and name.isprintable() else None


class Keeper:
    """A descriptor store. What is sent by another user is ignored, but for root's."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []
        self.address = f"@libnetfilterqueue-{os.getpid()}-{secrets.token_hex(8)}"
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind(f"\0{self.address[1:]}")

    def fileno(self) -> int:
        """The descriptor on which programs are heard."""
        return self._sock.fileno()

    def listen(self) -> None:
        """Does what programs have asked for, without waiting."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text, rights, *_ = self._sock.recvmsg(
                    4096,
                    socket.CMSG_SPACE(MOST * 4) + socket.CMSG_SPACE(CREDENTIALS.size),
                    socket.MSG_CMSG_CLOEXEC,
                )
                self._take(text, rights)

    def _take(self, text: bytes, rights: list[tuple[int, int, bytes]]) -> None:
        """One message."""
        descriptors = array("i")
        uid = -1
        for _, kind, data in rights:
            if kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            else:
                _, uid, _ = CREDENTIALS.unpack(data)
        lines = [line.partition("=") for line in text.decode(errors="replace").split("\n")]
        assignments = {variable: value for variable, _, value in lines}
        name = checked(assignments.get("FDNAME"))
        if assignments.get("FDSTORE") == "1" and uid in (0, os.geteuid()):
            self._store("stored" if name is None else name, descriptors)
        if assignments.get("FDSTOREREMOVE") == "1" and uid in (0, os.geteuid()):
            self._forget(name)
        for descriptor in descriptors:  # BARRIER=1 is answered by that
            os.close(descriptor)

    def _store(self, name: str, descriptors: Iterable[int]) -> None:
        self.stored += [Stored(name, os.dup(descriptor)) for descriptor in descriptors]

    def _forget(self, name: str | None) -> None:
        for stored in self.stored:
            if stored.name == name:
                os.close(stored.descriptor)
        self.stored = [stored for stored in self.stored if stored.name != name]

    def close(self) -> None:
        """Lets everything go."""
        for stored in self.stored:
            os.close(stored.descriptor)
        self.stored.clear()
        self._sock.close()
