# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter that soak_kill.py kills again and again. As a program of its own:

    soak_filter.py FILE

FILE is the memory that all share. Its socket outlives it by libnetfilterqueue.keeping. SIGTERM ends
it once nothing waits.
"""

import os
import random
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from queues import Handle, Packet
from soak_traffic import CONFIGURING, DROPPED, DROPS, HANDLING, LIFE, READING, SEEN, Record

import libnetfilterqueue as nfq
from libnetfilterqueue import keeping

KEEPS = 5  # one in so many is kept
LONG = 40  # one in so many takes long
KEPT = 30  # packets that are kept, at most
DATA = slice(28, 36)  # a datagram's number


class Filter:
    """Decides on packets: it accepts and drops at once, keeps some, and takes long for others."""

    def __init__(self, record: Record, life: int, *, drops: bool) -> None:
        self._board, self._fates = record.board, record.fates
        self._mark = life & LIFE or 1
        self._slot = life % 2
        self._drops = drops
        self._kept: deque[Packet] = deque()
        self._stopping = False

    def stop(self, *_: object) -> None:
        """Has `run` return; a signal handler."""
        self._stopping = True

    def create_queues(
        self, handle: Handle, queues: Iterable[int], unanswered: int | None, *, shared: bool = False
    ) -> None:
        """Creates its queues, or takes them over."""
        self._board.stages[self._slot] = CONFIGURING
        handle.on_verdict_error = self._note_refusal
        for queue in queues:
            handle.create_queue(queue, self, unanswered=unanswered, shared=shared)
        self._board.stages[self._slot] = READING

    def _note_refusal(self, _queue: int | None, _id: int, _error: OSError) -> None:
        self._board.refused += 1

    def run(self, handle: Handle) -> None:
        """Reads until it is stopped."""
        while not self._stopping:
            self.turn(handle, 0.002)

    def turn(self, handle: Handle, timeout: float = 0) -> int:
        """Reads once, and settles what it has kept if there was nothing; 0 if nothing was done."""
        return handle.process(timeout=timeout) or self._relax(0)

    def finish(self, handle: Handle) -> None:
        """Reads until nothing is left."""
        while self.turn(handle):
            pass

    def __call__(self, packet: Packet) -> None:
        self._board.stages[self._slot] = HANDLING
        payload = packet.payload
        if payload[9] == socket.IPPROTO_TCP:
            self._accept(packet)
        else:
            self._judge(packet, int.from_bytes(payload[DATA], "big"))
        self._board.stages[self._slot] = READING

    def _judge(self, packet: Packet, number: int) -> None:
        self._fates[number] |= SEEN
        if self._drops and number % DROPS == 0:
            self._fates[number] |= DROPPED
            packet.drop()
        elif number % KEEPS == 0:
            self._kept.append(packet)
            self._relax(KEPT)
        else:
            if number % LONG == 1:
                time.sleep(random.uniform(0, 0.001))
            self._accept(packet)

    def _relax(self, most: int) -> int:
        """Accepts what was kept, all but so many; returns how many those were."""
        count = max(0, len(self._kept) - most)
        for _ in range(count):
            self._accept(self._kept.popleft())
        return count

    def _accept(self, packet: Packet) -> None:
        packet.accept(mark=packet.mark | self._mark)


def main(path: str) -> None:
    record = Record(Path(path))
    record.board.life += 1
    filter_ = Filter(record, record.board.life, drops=True)
    signal.signal(signal.SIGTERM, filter_.stop)
    record.board.pid = os.getpid()
    with keeping.open() as handle:
        filter_.create_queues(handle, [1], nfq.NF_REPEAT)
        filter_.run(handle)
        filter_.finish(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])
