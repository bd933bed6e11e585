# SPDX-License-Identifier: GPL-2.0-or-later
"""The part that the streams of all adapters share: packets to be fetched, and their readers."""

import contextlib
from abc import ABC, abstractmethod
from collections import deque
from itertools import islice, repeat, starmap
from time import monotonic
from typing import Protocol

import libnetfilterqueue as nfq

HOLD = 0.001  # seconds for which a verdict may wait for others while packets are handled


def settle(packet: nfq.NetfilterQueueData) -> None:
    """Gives a packet its queue's default verdict, unless it has one."""
    if packet.verdict is None:
        # Another thread may have been faster, or its queue been destroyed.
        with contextlib.suppress(nfq.ClosedError, nfq.VerdictError):
            packet._settle()


class Event(Protocol):
    """What a reader waits for, of its own loop."""

    def set(self) -> object: ...


class Backlog(ABC):
    """Packets that have been read from the kernel, and readers that wait for such.

    Signal handlers may run between any two steps of this, and close or stop the stream.
    """

    def __init__(self, limit: int) -> None:
        self._packets: deque[nfq.NetfilterQueueData] = deque()
        self._waiting: deque[Event] = deque()  # a reader each; the first has waited longest
        self._limit = limit
        self._full = False  # it had as many packets, and has not been half empty since
        self._until = 0.0  # when verdicts that have been given since the last look are to leave

    @abstractmethod
    def _is_ended(self) -> bool:
        """Whether no more packets will come."""

    @abstractmethod
    def _flush(self) -> None:
        """Sends the verdicts that are held back."""

    @abstractmethod
    def _steer(self) -> None:
        """Has more packets read, or not, as they are wanted."""

    def _wake(self) -> None:
        """Wakes one reader for each packet, those that have waited longest; at the end, all.

        A reader that was woken stays in `_waiting` until it runs. If it takes no packet then, it
        has to call this for the others.
        """
        count = None if self._is_ended() else len(self._packets)
        for event in list(islice(self._waiting, count)):
            event.set()

    def _look(self) -> None:
        """Sends the verdicts that are held back, if the last look is longer ago than HOLD."""
        now = monotonic()
        if now > self._until:
            self._until = now + HOLD
            self._flush()

    def _ready(self) -> bool:
        """Whether a packet can be fetched before anybody looks at verdicts and at the loop."""
        return bool(self._packets) and monotonic() <= self._until

    def _take(self, *, looked: bool = False) -> nfq.NetfilterQueueData | None:
        """The next packet; None if there is none, or if somebody has to look first, and has not.

        A signal handler may close the stream at any moment, and there is none.
        """
        if not looked and monotonic() > self._until:
            return None
        try:
            packet = self._packets.popleft()
        except IndexError:
            return None
        if self._full:
            self._note_taken()
        return packet

    def _take_batch(self, most: int) -> list[nfq.NetfilterQueueData]:
        """As many as there are: other threads, or a signal handler, may take some meanwhile."""
        taken: list[nfq.NetfilterQueueData] = []
        with contextlib.suppress(IndexError):  # after which the list has those before
            taken.extend(starmap(self._packets.popleft, repeat((), most)))
        self._note_taken()
        return taken

    def _note_taken(self) -> None:
        """Has more read once half of the packets are taken."""
        if self._full and len(self._packets) * 2 < self._limit:
            self._full = False
            self._steer()

    def qsize(self) -> int:
        """The number of packets that have been read from the kernel and are not fetched yet.

        >>> if stream.qsize() > 1000:
        ...     print("the handlers are slow")
        """
        return len(self._packets)
