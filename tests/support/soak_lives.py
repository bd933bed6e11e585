# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters that are killed, or hand their queues on, and what the kernel says of it each time."""

import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from keeping import resident
from netns import TIMEOUT
from played_kernel import NFQA_PACKET_HDR, NFQA_PAYLOAD, attributes_of
from queues import accept
from soak_filter import DATA, Filter
from soak_traffic import CONFIGURING, HANDLING, LIFE, READING, STARTING, Record, Rules
from soaking import FLAT, Beside
from statuses import visible

import libnetfilterqueue as nfq

PACKET = 3 << 8  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_PACKET
LOOKS = 1000  # at the kernel's table, until two are equal
PROGRAM = Path(__file__).parent / "soak_filter.py"
KEEP = ["-P", "-m", "libnetfilterqueue", "keep", "--restart", "always", "--backoff", "0", "--"]


def wait_until(done: Callable[[], object], interval: float = 0.0002) -> None:
    """Waits until something has come true."""
    end = time.monotonic() + TIMEOUT
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("what the soak waits for did not come")
        time.sleep(interval)


def pause(most: float) -> None:
    """Any time from 0.1 ms up to that, in seconds; short ones are as likely as long ones."""
    time.sleep(0.0001 * (most / 0.0001) ** random.random())


class Trial(ABC):
    """Filters on one socket, one after the other."""

    share = 1.0  # of the ends that are asked for

    def __init__(self, record: Record, rules: Rules, unanswered: int | None) -> None:
        self.record, self.rules, self.unanswered = record, rules, unanswered
        self.ends: Counter[str] = Counter()  # how filters have ended
        self.in_hand = [0.0, 0.0]  # packets that they had then and were settled: from, to
        self.lines: list[nfq.QueueStatus] = []  # the kernel's table at the end
        self.wrong: list[str] = []

    @abstractmethod
    def go_on(self) -> None:
        """One filter ends, or two, and the next comes."""

    @abstractmethod
    def close(self) -> None:
        """Lets the socket go, and all that reads it."""

    @abstractmethod
    def settle(self, traffic: list[Beside]) -> None:
        """The last filter decides, until the traffic has ended and nothing waits."""

    def note_kill(self, stage: int) -> None:
        """Notes what a filter was at when it was killed."""
        self.ends["kill"] += 1
        self.ends["configuring"] += stage == CONFIGURING
        self.ends["handling"] += stage == HANDLING

    def run(self, ends: int, traffic: list[Beside]) -> None:
        """Goes on until so many filters have ended."""
        while self.ends["kill"] + self.ends["handover"] < ends * self.share:
            self.go_on()
        self.settle(traffic)


class Forked(Trial):
    """Filters in children of this process, which keeps their socket."""

    def __init__(self, record: Record, rules: Rules, unanswered: int | None) -> None:
        super().__init__(record, rules, unanswered)
        self._left: tuple[float, float] = (0, 0)  # packets in hand that are to be settled: from, to
        with nfq.open() as handle:
            for queue in rules.queues:
                handle.create_queue(queue, accept)
            self._kept = socket.socket(fileno=handle.detach())

    def start(self, *, shared: bool = False) -> "Life":
        """Starts the next filter."""
        self.record.board.life += 1
        return Life(self, self.record.board.life, shared=shared)

    def _filter(self, life: int) -> Filter:
        return Filter(self.record, life, drops=self.unanswered == nfq.NF_REPEAT)

    def live(self, life: int, handover: socket.socket, *, shared: bool) -> None:
        """What a filter's process does. SIGTERM has it detach and hand the descriptor on."""
        filter_ = self._filter(life)
        signal.signal(signal.SIGTERM, filter_.stop)
        handle = nfq.open(fd=self._kept)
        filter_.create_queues(handle, self.rules.queues, self.unanswered, shared=shared)
        filter_.run(handle)
        socket.send_fds(handover, [b"."], [handle.detach()])

    def adopt(self, descriptor: int) -> None:
        """The next filter gets a descriptor that an earlier one has handed on."""
        self._kept.close()
        self._kept = socket.socket(fileno=descriptor)

    def settle(self, traffic: list[Beside]) -> None:
        filter_ = self._filter(self.record.board.life + 1)
        with nfq.open(fd=self._kept) as handle:
            filter_.create_queues(handle, self.rules.queues, self.unanswered)
            while not all(child.ended() for child in traffic):
                filter_.turn(handle, 0.002)
                self.record.board.stop = self.record.board.decided > 0
            filter_.finish(handle)
            self.lines = nfq.queue_status() if visible() else []
        self._note_settled(READING)

    def close(self) -> None:
        self._kept.close()

    def look(self, stage: int) -> None:
        """Counts what filters had in hand. All have ended: nobody reads.

        The first of them has got to that stage, and so perhaps settled what had been left before.
        """
        self._note_settled(stage)
        self._left = self._count_in_hand() if visible() else (0, math.inf)

    def _note_settled(self, stage: int) -> None:
        least, most = self._left
        self.in_hand[0] += least if stage >= READING else 0
        self.in_hand[1] += most if stage >= CONFIGURING else 0

    def _count_in_hand(self) -> tuple[int, int]:
        """How many packets were read and not answered, at least and at most."""
        for _ in range(LOOKS):
            lines = nfq.queue_status()
            unread = self._count_unread(lines)
            if nfq.queue_status() == lines:  # nothing has come meanwhile
                break
        else:
            unread = None
        waiting = sum(line.waiting for line in lines)
        return (0, waiting) if unread is None else (waiting - unread, waiting - unread)

    def _count_unread(self, lines: list[nfq.QueueStatus]) -> int | None:
        """How many packets are in the socket; None where its first message is no packet."""
        try:
            message = self._kept.recv(1 << 17, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        if int.from_bytes(message[4:6], sys.byteorder) != PACKET:
            return None
        attributes = attributes_of(message)
        queued = sum(line.id_sequence for line in lines)
        if len(lines) == 1:
            return queued - int.from_bytes(attributes[NFQA_PACKET_HDR][:4], "big") + 1
        return queued - int.from_bytes(attributes[NFQA_PAYLOAD][DATA], "big")


class Life(Beside):
    """A filter in a process of its own."""

    def __init__(self, trial: Forked, number: int, *, shared: bool) -> None:
        self._trial = trial
        self._stages = trial.record.board.stages
        self._slot = number % 2
        self._stages[self._slot] = STARTING
        self._ours, theirs = socket.socketpair()
        super().__init__(trial.live, number, theirs, shared=shared)
        theirs.close()

    @property
    def stage(self) -> int:
        """What it is at, or was at."""
        return self._stages[self._slot]

    def reach(self, stage: int) -> None:
        """Waits until it has got there."""
        wait_until(lambda: self.stage >= stage or self.ended())

    def await_moment(self) -> None:
        """Any moment: as it starts, while it takes its queues over, or later."""
        stage, most = random.choice([(STARTING, 0.01), (CONFIGURING, 0.001), (READING, 0.1)])
        self.reach(stage)
        pause(most)

    def end(self) -> None:
        """Kills it."""
        self.kill(signal.SIGKILL)
        self._note_end()

    def hand_over(self) -> None:
        """Has it detach. One in four is killed over that."""
        self.reach(READING)
        pause(0.03)
        self.kill(signal.SIGTERM)
        if random.random() < 0.25:
            pause(0.003)
            self.kill(signal.SIGKILL)
        self._ours.settimeout(TIMEOUT)
        _, descriptors, *_ = socket.recv_fds(self._ours, 1, 1)
        self._note_end()
        for descriptor in descriptors:
            self._trial.adopt(descriptor)

    def _note_end(self) -> None:
        status = self.wait()
        if status == -signal.SIGKILL:
            self._trial.note_kill(self.stage)
        elif status == 0:
            self._trial.ends["handover"] += 1
        else:
            raise RuntimeError(f"a filter has ended with {status}")

    def __exit__(self, *exception: object) -> None:
        self.kill(signal.SIGKILL)
        self.wait()
        self._ours.close()


class Killed(Forked):
    """Each is killed."""

    def go_on(self) -> None:
        with self.start() as life:
            life.await_moment()
            life.end()
        self.look(life.stage)


class HandedOver(Forked):
    """Each detaches, and hands the descriptor on."""

    def go_on(self) -> None:
        with self.start() as life:
            life.hand_over()
        self.look(life.stage)


class Overlapping(Forked):
    """Two read at once. One ends earlier, whichever, and may detach."""

    def go_on(self) -> None:
        with self.start() as first:
            first.reach(READING)
            with self.start(shared=True) as second:
                second.await_moment()
                earlier, later = random.sample([first, second], 2)
                random.choice([earlier.end, earlier.hand_over])()
                pause(0.01)
                later.end()
        self.look(first.stage)


class Kept(Trial):
    """Programs that `libnetfilterqueue keep` starts again. Each takes long to start."""

    share = 0.1

    def __init__(self, record: Record, rules: Rules, unanswered: int | None) -> None:
        super().__init__(record, rules, unanswered)
        self._board = record.board
        self._keep = subprocess.Popen([sys.executable, *KEEP, sys.executable, PROGRAM, record.path])
        self._sizes: list[tuple[int, int]] = []

    def _await_start(self) -> None:
        wait_until(lambda: self._board.pid, 0.001)

    def _await_verdict(self) -> None:
        self._await_start()
        wait_until(lambda: self._board.latest == self._board.life & LIFE, 0.001)

    def _note_size(self) -> None:
        """The descriptors of `keep` and its memory."""
        pid = self._keep.pid
        self._sizes.append((len(os.listdir(f"/proc/{pid}/fd")), resident(pid)))

    def go_on(self) -> None:
        """Kills one that has given a verdict, and the next while it begins.

        Three that begin in vain would have NF_REPEAT replaced by the default verdict.
        """
        self._await_verdict()
        self._note_size()
        pause(0.03)
        self._kill()
        self._await_start()
        pause(0.01)
        self._kill()

    def _kill(self) -> None:
        pid, self._board.pid = self._board.pid, 0
        os.kill(pid, signal.SIGKILL)
        self.note_kill(self._board.stages[self._board.life % 2])

    def settle(self, traffic: list[Beside]) -> None:
        self._await_verdict()
        self._board.stop = 1
        wait_until(lambda: all(child.ended() for child in traffic), 0.01)
        self._note_size()
        self._check_sizes()
        self.lines = nfq.queue_status() if visible() else []
        self._keep.terminate()
        if self._keep.wait(TIMEOUT) != 0:
            self.wrong.append("the last program has failed")

    def close(self) -> None:
        self._keep.terminate()
        self._keep.wait(TIMEOUT)

    def _check_sizes(self) -> None:
        descriptors, memory = zip(*self._sizes, strict=True)
        if len(set(descriptors)) > 1:
            self.wrong.append(f"keep had {min(descriptors)} to {max(descriptors)} descriptors")
        if max(memory) - memory[0] > FLAT:
            self.wrong.append(f"keep has grown by {max(memory) - memory[0]} bytes")
