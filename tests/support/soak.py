# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends millions of packets through a queue that can't take them all, and accounts for each.

What a second process has sent is what the kernel has dropped for want of room, and has counted,
and what was dispatched; of that, what was accepted has arrived, and nothing else. The process's
resident memory stays flat from the first tenth of the packets on. Exits with 1 if any of it is not
so. The kernel tells its counters to root only.
"""

import argparse
import contextlib
import mmap
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from ctypes import sizeof

import soak_kill
from flows import sender
from keeping import resident
from loops import LOOPS, Loop
from netns import PORT, QUEUED_PORT, Counter, isolate, private_namespace, queue_rule
from queues import Packet
from sender import END, Shared
from soaking import FLAT, SO_SNDBUFFORCE, Beside, enlarge, finish

import libnetfilterqueue as nfq

HOST = "127.0.0.1"
FLOW = f"-p udp --sport {QUEUED_PORT}"
DATA = bytes(32)
CHUNK = 100  # datagrams between two looks at what the sender is told
DROPPED = 8  # one packet in so many is dropped
TENTHS = 10


class Judge:
    """A callback that accepts and drops, at once or when so many more packets have come."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._kept: deque[Packet] = deque()
        self.accepted = self.dropped = 0

    def __call__(self, packet: Packet) -> None:
        self._kept.append(packet)
        if len(self._kept) > self._keep:
            self._judge(self._kept.popleft())

    def _judge(self, packet: Packet) -> None:
        if packet.id % DROPPED:
            packet.accept()
            self.accepted += 1
        else:
            packet.drop()
            self.dropped += 1

    def finish(self) -> None:
        """Gives those their verdicts that wait for more to come."""
        while self._kept:
            self._judge(self._kept.popleft())


def flood(shared: Shared) -> None:
    """Sends as fast as it can until it is told to end."""
    with sender(HOST, QUEUED_PORT) as sock:
        # What waits in the queue counts as not yet sent: by default that would be the bound.
        enlarge(sock, socket.SO_SNDBUF, SO_SNDBUFFORCE)
        while shared.command != END:
            for _ in range(CHUNK):
                sock.send(DATA)
            shared.sent += CHUNK


@contextlib.contextmanager
def flooding() -> Iterator[Shared]:
    """A second process sends for the length of the block."""
    shared = Shared.from_buffer(mmap.mmap(-1, sizeof(Shared)))
    with Beside(flood, shared):
        try:
            yield shared
        finally:
            shared.command = END


def settled(packets: Callable[[], int]) -> Callable[[], bool]:
    """Whether no packet has come for twenty looks."""
    counts: deque[int] = deque(maxlen=20)

    def look() -> bool:
        counts.append(packets())
        return len(counts) == counts.maxlen and len(set(counts)) == 1

    return look


class Soak:
    """A queue that is flooded."""

    def __init__(self, loop: Loop, keep: int) -> None:
        self._entered = Counter("OUTPUT", FLOW, table="raw")
        queue_rule(1, FLOW)
        self._arrived = Counter("INPUT", f"-p udp --dport {PORT}", target="DROP")
        self._loop, self._judge = loop, Judge(keep)
        self._handle = nfq.open()
        self._handle.create_queue(1, self._judge, mode=nfq.NFQNL_COPY_PACKET)
        self._sent = 0
        self.growth = 0

    def _packets(self) -> int:
        return self._handle.stats().packets

    def run(self, packets: int) -> None:
        """Has so many dispatched, and shows how that goes."""
        start, first = time.monotonic(), 0
        print(f"{'packets':>12}{'seconds':>9}{'sent':>13}{'resident':>14}")
        with self._loop.feed(self._handle):
            with flooding() as shared:
                for tenth in range(1, TENTHS + 1):
                    self._until(packets * tenth // TENTHS)
                    size = resident()
                    first = first or size
                    self.growth = max(self.growth, size - first)
                    print(
                        f"{self._packets():12,}{time.monotonic() - start:9.1f}"
                        f"{shared.sent:13,}{size / 1024:10,.0f} KiB",
                        flush=True,
                    )
            self._sent = shared.sent
            self._loop.until(settled(self._packets))
            self._judge.finish()

    def _until(self, packets: int) -> None:
        """Runs the loop, for no longer at a time than its patience."""
        while self._packets() < packets:
            goal = min(packets, self._packets() + 10_000)
            self._loop.until(lambda: self._packets() >= goal)  # noqa: B023

    def account(self) -> list[str]:
        """Shows where all packets went; returns what is wrong."""
        stats, judge = self._handle.stats(), self._judge
        (line,) = nfq.queue_status()
        lost = line.queue_dropped + line.user_dropped
        print(
            f"{self._sent:,} sent = {lost:,} lost for want of room (queue {line.queue_dropped:,}, "
            f"receive buffer {line.user_dropped:,}, {stats.overruns:,} overruns) "
            f"+ {judge.dropped:,} dropped + {judge.accepted:,} accepted; "
            f"{self._arrived.packets:,} arrived; resident memory grew by {self.growth >> 10} KiB"
        )
        checks = {
            "the kernel has not seen all that was sent": self._entered.packets == self._sent,
            "packets are missing": self._sent == lost + stats.packets,
            "packets have no verdict": stats.packets == stats.verdicts,
            "verdicts are missing": stats.verdicts == judge.accepted + judge.dropped,
            "not what was accepted has arrived": self._arrived.packets == judge.accepted,
            "packets wait": line.waiting == 0,
            "verdicts were refused": stats.verdict_errors == 0,
            "the queue was not overloaded": lost > 0,
            "memory has grown": self.growth <= FLAT,
        }
        return [wrong for wrong, right in checks.items() if not right]

    def close(self) -> None:
        self._handle.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="./dev soak")
    parser.add_argument("packets", nargs="?", type=int, default=10_000_000, metavar="PACKETS")
    parser.add_argument("--loop", choices=LOOPS, default="manual", help="what feeds the handle")
    parser.add_argument(
        "--keep", type=int, default=0, help="packets that wait until more have come"
    )
    parser.add_argument(
        "--kill",
        nargs="?",
        type=int,
        const=1000,
        metavar="KILLS",
        help="kill filters instead, so often under each set of rules (see soak_kill.py)",
    )
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    isolate()
    if chosen.kill is not None:
        soak_kill.run(chosen.kill)
    else:
        flow(chosen)


def flow(chosen: argparse.Namespace) -> None:
    """The soak that kills nobody."""
    with (
        private_namespace(),
        contextlib.closing(LOOPS[chosen.loop]()) as loop,
        contextlib.closing(Soak(loop, chosen.keep)) as soak,
    ):
        soak.run(chosen.packets)
        wrong = soak.account()
        wrong += [f"the loop got {error!r}" for error in loop.errors]
    finish(wrong)


if __name__ == "__main__":
    main()
