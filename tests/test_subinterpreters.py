# SPDX-License-Identifier: GPL-2.0-or-later
"""Interpreters of one process that have a GIL each, from Python 3.12 on."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator

from netns import QUEUED_PORT, TIMEOUT, UdpPair, background, queue_rule
from queues import Handle, accepting

import libnetfilterqueue as nfq

COUNT = 1000
CHUNK = 50  # datagrams that any receive buffer holds

TAKE = """
import os
import libnetfilterqueue as nfq

seen = []

def callback(packet):
    seen.append(packet.get_payload()[28:])
    packet.accept()

with nfq.open() as handle:
    handle.create_queue({number}, callback, mode=nfq.NFQNL_COPY_PACKET)
    os.write({bound}, b"bound")
    while len(seen) < {count}:
        assert handle.process(timeout={timeout}) > 0
    assert handle.stats().verdicts == {count}
assert handle.closed
assert seen == [b"%d" % number for number in range({count})]
"""

KEEP = """
import libnetfilterqueue as nfq

packets = []
handle = nfq.open()
handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET)
"""

KEEP_ONE = f"""
assert handle.process(timeout={TIMEOUT}) == 1
view = packets[0].payload
"""


@contextlib.contextmanager
def interpreter() -> Iterator[Callable[[str], None]]:
    """What runs a program in an interpreter with a GIL of its own, which ends with the block."""
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    interpreters = importlib.import_module(name)
    number = interpreters.create()

    def run(program: str) -> None:
        failure = interpreters.run_string(number, program)
        assert failure is None, failure.formatted

    try:
        run(f"import sys; sys.path[:] = {sys.path!r}")  # not the checkout, where a worker begins
        yield run
    finally:
        interpreters.destroy(number)


def take(number: int, bound: int) -> None:
    """Has a new interpreter bind a queue, tell so, take all that a test sends, and close."""
    with interpreter() as run:
        run(TAKE.format(number=number, bound=bound, count=COUNT, timeout=TIMEOUT))


def exchange(number: int) -> None:
    """Sends datagrams through the queue of a new interpreter; each arrives."""
    host = f"127.0.0.{number}"
    queue_rule(number, f"-p udp --sport {QUEUED_PORT} -s {host}")
    told, bound = os.pipe()
    with UdpPair(host=host) as udp, open(told, "rb"), open(bound, "wb"):
        taking = background(take, number, bound)
        assert os.read(told, 5) == b"bound"
        data = [b"%d" % number for number in range(COUNT)]
        for first in range(0, COUNT, CHUNK):
            chunk = data[first : first + CHUNK]
            udp.send(*chunk)
            assert [udp.recv() for _ in chunk] == chunk
        taking.result(TIMEOUT)


def test_interpreter_with_a_gil() -> None:
    """An interpreter with a GIL of its own imports, binds, gives verdicts, and closes."""
    exchange(1)


def test_two_at_once() -> None:
    """Two interpreters run in two threads at the same time, each on a queue of its own."""
    for exchanging in [background(exchange, number) for number in (1, 2)]:
        exchanging.result(TIMEOUT)


def test_destroyed_interpreter(handle: Handle, udp: UdpPair) -> None:
    """An interpreter that ends with a handle open and a packet kept leaves its queue free."""
    with interpreter() as run:
        run(KEEP)
        udp.send(b"kept")
        run(KEEP_ONE)
    assert udp.arrivals() == []
    seen: list[bytes] = []
    handle.create_queue(1, accepting(seen), mode=nfq.NFQNL_COPY_PACKET)
    udp.send(b"next")
    assert handle.process(timeout=TIMEOUT) == 1
    assert udp.recv() == b"next"
