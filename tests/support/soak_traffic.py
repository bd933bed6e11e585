# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbered datagrams and TCP conversations for the filters of soak_kill.py.

The datagrams are numbered from 0. What became of them is written down in memory
that all processes share.
"""

import contextlib
import ctypes
import itertools
import mmap
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flows import HOST, sender
from netns import PORT, QUEUED_PORT, TIMEOUT, iptables, run, tcp_echo, tcp_exchange
from soaking import SO_RCVBUFFORCE, SO_SNDBUFFORCE, enlarge
from statuses import visible

SO_RCVMARK = 75
IP_RECVTTL = 12

FLOW = f"-p udp --sport {QUEUED_PORT}"
TCP_PORTS = range(10_000, 30_000)  # each conversation has its own: one may linger that was given up
NUMBERS = 1 << 23  # datagrams, at most
BURST = 64  # datagrams that are sent in one go, at most
WINDOW = 400 if visible() else 100  # datagrams under way, at most; others than root have less room
PATIENCE = 0.1  # seconds after which one more is sent: the others may have been dropped
DROPS = 7  # one datagram in so many is dropped, if filters drop any
TRANSFER = 60_000  # bytes of a TCP conversation
GIVE_UP = 10.0  # seconds without a packet of it
END = b"the end"  # no datagram comes after it
QUIET = 0.2  # seconds in which none comes

# What a datagram's mark says.
LIFE = 0xFFFF  # who has accepted it; 0: nobody
FRONT = 0x10000  # set by a rule in front of the queue
SKIPPED = 0x20000  # set by a rule for what does not enter the queue

# What a filter has done with a datagram.
SEEN = 1
DROPPED = 2

# What a filter is at.
STARTING, CONFIGURING, READING, HANDLING = range(4)


class Board(ctypes.Structure):
    """Numbers that one process writes, and others read."""

    _fields_ = (
        ("stop", ctypes.c_uint64),  # nothing new is to be sent
        ("sent", ctypes.c_uint64),
        ("highest", ctypes.c_uint64),  # the highest number that has arrived
        ("decided", ctypes.c_uint64),  # arrivals that a filter has accepted
        ("undecided", ctypes.c_uint64),  # arrivals past the filter
        ("overruled", ctypes.c_uint64),  # arrivals that a filter has dropped
        ("changed", ctypes.c_uint64),  # arrivals that have not been changed just once
        ("refused", ctypes.c_uint64),  # verdicts on packets that had theirs already
        ("latest", ctypes.c_uint64),  # who has accepted the latest arrival
        ("gap", ctypes.c_uint64),  # the longest time between two decided arrivals, in ns
        ("transfers", ctypes.c_uint64),  # TCP conversations that were right
        ("life", ctypes.c_uint64),  # filters that have been started
        ("pid", ctypes.c_uint64),  # the process of a filter that was not forked
        ("stages", ctypes.c_uint64 * 2),  # what filters are at, those that are odd and even
    )
    stop: int
    sent: int
    highest: int
    decided: int
    undecided: int
    overruled: int
    changed: int
    refused: int
    latest: int
    gap: int
    transfers: int
    life: int
    pid: int
    stages: "ctypes.Array[ctypes.c_uint64]"


class Record:
    """The memory that all share: the board, and a byte for each datagram, twice."""

    SIZE = ctypes.sizeof(Board) + 2 * NUMBERS

    def __init__(self, path: Path) -> None:
        self.path = path  # other programs find it there
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), self.SIZE)
        self.board = Board.from_buffer(memory)
        numbers = memoryview(memory)[ctypes.sizeof(Board) :]
        self.fates = numbers[:NUMBERS]  # what filters have done
        self.arrivals = numbers[NUMBERS:]  # how often it has arrived

    @classmethod
    @contextlib.contextmanager
    def create(cls) -> Iterator["Record"]:
        """A new one."""
        descriptor = os.memfd_create("soak")
        try:
            os.ftruncate(descriptor, cls.SIZE)
            yield cls(Path(f"/proc/{os.getpid()}/fd/{descriptor}"))
        finally:
            os.close(descriptor)


class Rules(NamedTuple):
    """What stands in front of a filter, and what shows that a datagram went through it once."""

    name: str
    rules: tuple[str, ...]  # for datagrams, in mangle OUTPUT
    front: int = 0  # the mark that it leaves
    ttl: int = 64
    queues: tuple[int, ...] = (1,)

    def install(self) -> None:
        """Sets up the rules in the namespace, whose packets are as small as Ethernet's."""
        run("ip link set lo mtu 1500")
        for rule in self.rules:
            iptables(f"-t mangle -A OUTPUT {FLOW} {rule}")
        if len(self.queues) == 1:
            iptables("-t mangle -A OUTPUT -p tcp -j NFQUEUE --queue-num 1")


QUEUE = "-j NFQUEUE --queue-num 1"
SKIP = f"-j MARK --or-mark {SKIPPED:#x}"
PLAIN = Rules("plain", (QUEUE,))
MARK = Rules(
    "mark",
    (f"-m mark --mark {FRONT:#x}/{FRONT:#x} -j RETURN", f"-j MARK --or-mark {FRONT:#x}", QUEUE),
    front=FRONT,
)
XOR = Rules("xor", (f"-j MARK --xor-mark {FRONT:#x}", QUEUE), front=FRONT)
STATEFUL = (
    Rules("limit", (f"-m limit --limit 1000/s --limit-burst 50 {QUEUE}", SKIP)),
    MARK,
    Rules("nth", (f"-m statistic --mode nth --every 2 --packet 0 {QUEUE}", SKIP)),
    Rules("fanout", ("-j NFQUEUE --queue-balance 1:2 --queue-cpu-fanout",), queues=(1, 2)),
    Rules("ttl", ("-j TTL --ttl-dec 1", QUEUE), ttl=63),
    XOR,
)


def await_reader(board: Board) -> None:
    """Waits until a filter reads, and so the queue is bound."""
    while max(board.stages) < READING and not board.stop:
        time.sleep(0.0005)


def send(record: Record, *, drops: bool) -> None:
    """Sends datagrams in bursts, from all processors, and no more than buffers and queue hold."""
    board = record.board
    processors = list(os.sched_getaffinity(0))  # fanout chooses the queue by them
    await_reader(board)
    with sender(HOST, QUEUED_PORT) as sock:
        # What waits in the queue counts as not yet sent.
        enlarge(sock, socket.SO_SNDBUF, SO_SNDBUFFORCE)
        while not board.stop:
            os.sched_setaffinity(0, [random.choice(processors)])
            for _ in range(random.randint(1, BURST)):
                _await_room(board, drops=drops)
                sock.send(board.sent.to_bytes(8, "big"))
                board.sent += 1
            time.sleep(random.uniform(0, 0.01))


def _await_room(board: Board, *, drops: bool) -> None:
    end = time.monotonic() + PATIENCE
    while _under_way(board, drops=drops) > WINDOW and not board.stop and time.monotonic() < end:
        time.sleep(0.0005)


def _under_way(board: Board, *, drops: bool) -> int:
    """How many have still to come. They come in order where they are not repeated."""
    if drops:
        return board.sent - board.sent // DROPS - board.decided
    return board.sent - board.highest


class Receiver:
    """Writes down what arrives."""

    def __init__(self, record: Record, rules: Rules) -> None:
        self._record, self._rules = record, rules
        self._before = 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        enlarge(self.sock, socket.SO_RCVBUF, SO_RCVBUFFORCE)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        self.sock.setsockopt(socket.SOL_IP, IP_RECVTTL, 1)
        self.sock.bind((HOST, PORT))

    def close(self) -> None:
        """Closes its socket in this process."""
        self.sock.close()

    def run(self) -> None:
        """Receives until the end has come, and nothing behind it."""
        with contextlib.suppress(TimeoutError):
            while True:
                data, options, *_ = self.sock.recvmsg(64, 256)
                if data == END:
                    self.sock.settimeout(QUIET)
                else:
                    values = {(level, kind): value for level, kind, value in options}
                    (mark,) = struct.unpack("=I", values[socket.SOL_SOCKET, socket.SO_MARK])
                    (ttl,) = struct.unpack("=i", values[socket.SOL_IP, socket.IP_TTL])
                    self._take(int.from_bytes(data, "big"), mark, ttl)

    def _take(self, number: int, mark: int, ttl: int) -> None:
        record, board = self._record, self._record.board
        record.arrivals[number] = min(record.arrivals[number] + 1, 255)
        board.highest = max(board.highest, number)
        board.overruled += bool(record.fates[number] & DROPPED)
        if mark & LIFE:
            board.decided += 1
            board.latest = mark & LIFE
            board.changed += (mark & FRONT, ttl) != (self._rules.front, self._rules.ttl)
            self._note_time()
        elif not mark & SKIPPED or record.fates[number] & SEEN:
            board.undecided += 1

    def _note_time(self) -> None:
        now = time.monotonic_ns()
        if self._before:
            self._record.board.gap = max(self._record.board.gap, now - self._before)
        self._before = now


def transfer(record: Record) -> None:
    """Holds TCP conversations, one after the other, and compares what was said."""
    board = record.board
    await_reader(board)
    for port in itertools.cycle(TCP_PORTS):
        spoken = _converse(port)
        board.transfers += spoken
        if board.stop and spoken:
            return


def _converse(port: int) -> bool:
    """False if it was given up, since too many of its packets were dropped."""
    data = random.randbytes(TRANSFER)
    with contextlib.suppress(TimeoutError), tcp_echo(port=port):
        if tcp_exchange(data, port=port, timeout=GIVE_UP) != data:
            raise RuntimeError("a TCP conversation was not right")
        return True
    return False


def end() -> None:
    """Tells the receiver that all has been sent."""
    with sender(HOST) as sock:
        sock.settimeout(TIMEOUT)
        sock.send(END)
