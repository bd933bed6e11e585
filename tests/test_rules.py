# SPDX-License-Identifier: GPL-2.0-or-later
"""What NF_REPEAT does to packets behind rules of each kind, on the real kernel and on the fake one.

It is the table of docs/restarts.md.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from kernels import KERNELS, Network, Outcome
from netns import TIMEOUT
from queues import Handle, Packet, data_of, process_until

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel, Rule

DECIDED = 0x100  # the mark that programs add
DATA = [b"0", b"1", b"2", b"3", b"4", b"5"]
QUEUE = "-j NFQUEUE --queue-num 1"
LIMIT = "-m limit --limit 1/day --limit-burst"
NTH = "-m statistic --mode nth --packet 0 --every"


@pytest.fixture(params=KERNELS)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Either kernel."""
    with contextlib.closing(KERNELS[request.param]()) as network:
        yield network


class Case(NamedTuple):
    """Rules, as iptables has them and as the fake kernel does, and what becomes of six packets."""

    words: list[str]
    rules: list[dict[str, Any]]
    queued: str  # of which the first program reads all but the last
    decided: str  # by the next program
    marks: str = "000000"  # of all six


CASES = {
    "plain": Case([QUEUE], [{"queue": 1}], "012345", "012345"),
    "limit": Case([f"{LIMIT} 8 {QUEUE}"], [{"limit": 8, "queue": 1}], "012345", "015"),
    "limit that is used up": Case([f"{LIMIT} 4 {QUEUE}"], [{"limit": 4, "queue": 1}], "0123", "3"),
    "mark before the queue": Case(
        ["-m mark --mark 1 -j RETURN", "-j MARK --set-mark 1", QUEUE],
        [{"match_mark": 1}, {"set_mark": 1}, {"queue": 1}],
        "012345",
        "5",
        "111111",
    ),
    "nth": Case([f"{NTH} 2 {QUEUE}"], [{"every": 2, "queue": 1}], "024", "04"),
    "mark that is changed": Case(
        ["-j MARK --xor-mark 1", QUEUE],
        [{"xor_mark": 1}, {"queue": 1}],
        "012345",
        "012345",
        "000001",  # the others twice
    ),
    "matches one after the other": Case(
        [f"-m mark --mark 0 {LIMIT} 8 {NTH} 3 -j MARK --set-mark 2", f"-m mark --mark 2 {QUEUE}"],
        [{"match_mark": 0, "limit": 8, "every": 3, "set_mark": 2}, {"match_mark": 2, "queue": 1}],
        "03",
        "03",
        "200200",
    ),
}


def leave(handle: Handle, packets: list[Packet], count: int) -> int:
    """Ends a program that has as many packets in hand; the others are in the socket."""
    while len(packets) < count:
        handle.process(1, TIMEOUT)
    descriptor = handle.detach()
    packets.clear()
    return descriptor


@pytest.mark.parametrize("name", CASES)
def test_repeated(network: Network, name: str) -> None:
    """Packets of a program that has ended go through the rules again."""
    case = CASES[name]
    network.rules(case.words, [Rule(**options) for options in case.rules])
    handle = network.open()
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    network.send(*DATA)
    decided: list[bytes] = []

    def decide(packet: Packet) -> None:
        decided.append(data_of(packet))
        packet.accept(mark=packet.mark | DECIDED)

    descriptor = leave(handle, packets, len(case.queued) - 1)
    with nfq.open(fd=descriptor) as handle:
        os.close(descriptor)
        handle.create_queue(1, decide, unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(decided) >= len(case.decided))
        assert b"".join(sorted(decided)).decode() == case.decided
        marks = [
            int(mark) + DECIDED * (datagram in decided)
            for mark, datagram in zip(case.marks, DATA, strict=True)
        ]
        assert network.outcomes() == [
            Outcome(True, datagram, mark) for datagram, mark in zip(DATA, marks, strict=True)
        ]


@contextlib.contextmanager
def processor(number: int) -> Iterator[None]:
    """This thread runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [number])
    yield
    os.sched_setaffinity(0, before)


def test_fanout(network: Network) -> None:
    """Packets that are repeated on another processor go to another queue."""
    words = ["-j NFQUEUE --queue-balance 1:2 --queue-cpu-fanout"]
    network.rules(words, [Rule(queue=(1, 2))])
    one, *_, other = sorted(os.sched_getaffinity(0)) * 2
    handle = network.open()
    packets: list[Packet] = []
    for number in (1, 2):
        handle.create_queue(number, packets.append)
    decided: dict[bytes, int] = {}

    def decide(packet: Packet) -> None:
        decided[data_of(packet)] = packet.queue.number
        packet.accept()

    with processor(one):
        network.send(b"0", b"1", b"2")
    descriptor = leave(handle, packets, 2)
    with nfq.open(fd=descriptor) as handle:
        os.close(descriptor)
        with processor(other):
            for number in (1, 2):
                handle.create_queue(number, decide, unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(decided) == 3)
    by_processor = [1 + other % 2, 1 + other % 2, 1 + one % 2]
    expected = by_processor if network.name == "real" else [2, 1, 1]
    assert [decided[data] for data in (b"0", b"1", b"2")] == expected


WRONG: dict[str, tuple[type[Exception], str, Callable[[Any], object]]] = {
    "two targets": (
        ValueError,
        "queue, set_mark and xor_mark exclude each other",
        lambda _: Rule(queue=1, set_mark=1),
    ),
    "range": (ValueError, "queue must be from 0 to 0xffff", lambda _: Rule(queue=1 << 16)),
    "ranges": (ValueError, "queue must be from 0 to 0xffff", lambda _: Rule(queue=(1, -1))),
    "none": (ValueError, "queue must name a queue", lambda _: Rule(queue=[])),
    "mark": (ValueError, "set_mark must be from 0 to 0xffffffff", lambda _: Rule(set_mark=-1)),
    "never": (ValueError, "every must be at least 1, not 0", lambda _: Rule(every=0, queue=1)),
    "type": (TypeError, "every must be an int, not float", lambda _: Rule(every=1.5)),  # type: ignore[arg-type]
    "text": (
        TypeError,
        "rules must be Rules, not str: '-j",
        lambda kernel: kernel.enqueue(b"", rules=["-j NFQUEUE"]),
    ),
    "no queue": (
        ValueError,
        "one of the rules must have a queue",
        lambda kernel: kernel.enqueue(b"", rules=[Rule(set_mark=1)]),
    ),
    "two ways": (
        ValueError,
        "rules exclude number, bypass and match_mark",
        lambda kernel: kernel.enqueue(b"", 2, rules=[Rule(queue=1)]),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules(nfqueue: FakeKernel, name: str) -> None:
    """The error says what would be right."""
    error, message, call = WRONG[name]
    with pytest.raises(error, match=message):
        call(nfqueue)


def test_where_packets_go(nfqueue: FakeKernel) -> None:
    """Where nobody listens they are dropped, or pass by bypass; behind the last rule they pass."""
    rules = [Rule(limit=1, queue=1), Rule(limit=1, queue=2, bypass=True), Rule(set_mark=7)]
    packets = nfqueue.enqueue_all([b"1", b"2", b"3"], rules=rules)
    assert [packet.passed for packet in packets] == [False, True, True]
    assert [(packet.number, packet.mark) for packet in packets] == [(1, 0), (2, 0), (1, 7)]
