# SPDX-License-Identifier: GPL-2.0-or-later
"""Another process that reads a queue, does what it is told, and may be killed."""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Self

from netns import TIMEOUT
from queues import Packet

import libnetfilterqueue as nfq


class Reader:
    """A child that takes over queue 1 of a socket. It keeps the packets that it reads."""

    def __init__(self, kept: socket.socket, *, shared: bool = False) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(TIMEOUT)
        self._pid = os.fork()
        if self._pid == 0:
            self._live(theirs, lambda: Life(kept, shared=shared))
        theirs.close()
        self._hear()

    @staticmethod
    def _live(orders: socket.socket, begin: Callable[[], "Life"]) -> None:
        try:
            life = begin()
            orders.send(b".")
            while order := orders.recv(64):
                name, _, argument = order.decode().partition(" ")
                getattr(life, name)(int(argument))
                orders.send(b".")
        except BaseException:  # noqa: BLE001 (the child's end)
            traceback.print_exc(file=sys.stderr)
        os._exit(0)

    def _hear(self) -> None:
        assert self._ours.recv(1) == b".", "the other process has failed"

    def read(self, count: int) -> None:
        """Has it read so many packets, and no more."""
        self._tell(f"read {count}")

    def accept(self, count: int) -> None:
        """Has it accept the oldest packets that it keeps."""
        self._tell(f"accept {count}")

    def bind(self, number: int) -> None:
        """Has it bind another number."""
        self._tell(f"bind {number}")

    def _tell(self, order: str) -> None:
        self._ours.send(order.encode())
        self._hear()

    def kill(self) -> None:
        """Ends it as SIGKILL does: nothing is closed in order."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._pid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pid != 0:
            self.kill()
        self._ours.close()


class Life:
    """What the child does."""

    def __init__(self, kept: socket.socket, *, shared: bool) -> None:
        self._packets: list[Packet] = []
        self._handle = nfq.open(fd=kept)
        self._handle.create_queue(1, self._packets.append, shared=shared)

    def read(self, count: int) -> None:
        for _ in range(count):
            assert self._handle.process(1, TIMEOUT) == 1

    def bind(self, number: int) -> None:
        self._handle.create_queue(number, self._packets.append)

    def accept(self, count: int) -> None:
        for packet in self._packets[:count]:
            packet.accept()
        del self._packets[:count]
