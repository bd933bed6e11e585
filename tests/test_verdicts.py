# SPDX-License-Identifier: GPL-2.0-or-later
"""What each verdict does to a packet, when it is executed, and that none is left without one."""

import functools
import gc
import sys
from collections.abc import Callable

import pytest
from netns import TIMEOUT, UdpPair, background, iptables, queue_rule
from queues import Handle, Packet, Queue, accept, data_of

import libnetfilterqueue as nfq


def queue_with(
    handle: Handle,
    callback: Callable[[Packet], None],
    default_verdict: int = nfq.NF_DROP,
    number: int = 1,
) -> Queue:
    """A queue of whole packets."""
    return handle.create_queue(
        number, callback, mode=nfq.NFQNL_COPY_PACKET, default_verdict=default_verdict
    )


def setting(verdict: int, mark: int | None = None) -> Callable[[Packet], None]:
    """A callback that sets always the same verdict."""
    return lambda packet: packet.set_verdict(verdict, mark)


def keep_packets(handle: Handle, udp: UdpPair, *data: bytes) -> list[Packet]:
    """Packets with this data, kept by a callback that gave them no verdict."""
    kept: list[Packet] = []
    queue_with(handle, kept.append)
    udp.send(*data)
    assert handle.process(timeout=None) == len(data)
    return kept


# Each verdict


@pytest.mark.parametrize(
    ("give", "arrivals"),
    [
        (setting(nfq.NF_ACCEPT), [b"data"]),
        (setting(nfq.NF_DROP), []),
        (setting(nfq.NF_STOP), [b"data"]),
        (setting(nfq.NF_STOLEN), []),
        (lambda packet: packet.accept(), [b"data"]),
        (lambda packet: packet.drop(), []),
    ],
    ids=["ACCEPT", "DROP", "STOP", "STOLEN", "accept()", "drop()"],
)
def test_final(
    handle: Handle, udp: UdpPair, give: Callable[[Packet], None], arrivals: list[bytes]
) -> None:
    """A verdict that ends a packet's stay in the queue decides whether it arrives."""
    queue_with(handle, give)
    udp.send(b"data")
    assert handle.process(timeout=None) == 1
    assert udp.arrivals() == arrivals
    assert handle.process() == 0


def test_accept_goes_on_and_stop_does_not(handle: Handle, udp: UdpPair) -> None:
    """After NF_ACCEPT the next table of the hook is asked, after NF_STOP it isn't."""
    iptables("-t filter -A OUTPUT -p udp --sport 9998 -j DROP")
    verdicts = iter([nfq.NF_ACCEPT, nfq.NF_STOP])
    queue_with(handle, lambda packet: packet.set_verdict(next(verdicts)))
    udp.send(b"accepted", b"stopped")
    handle.process(timeout=None)
    assert udp.arrivals() == [b"stopped"]


@pytest.mark.parametrize("give", [setting(nfq.NF_REPEAT, 5), lambda packet: packet.repeat(5)])
def test_repeat(handle: Handle, give: Callable[[Packet], None]) -> None:
    """NF_REPEAT sends the packet through its chain again, and through no chain before that.

    Its mark tells the rule that it did.
    """
    iptables("-t raw -A OUTPUT -p udp --sport 9998 -m mark --mark 5 -j DROP")
    queue_rule(1, "-p udp --sport 9998 -m mark ! --mark 5", table="mangle")
    queue_with(handle, give)
    with UdpPair() as udp:
        udp.send(b"data")
        assert handle.process(timeout=None) == 1
        assert handle.process() == 0
        assert udp.arrivals() == [b"data"]


def test_repeat_without_mark(handle: Handle, udp: UdpPair) -> None:
    """A repeated packet that still matches comes back, as a new one."""
    ids: list[int] = []

    def callback(packet: Packet) -> None:
        ids.append(packet.id)
        packet.repeat() if packet.id < 3 else packet.accept()

    queue_with(handle, callback)
    udp.send(b"data")
    for _ in range(3):
        assert handle.process(timeout=None) == 1
    assert ids == [1, 2, 3]
    assert udp.arrivals() == [b"data"]


@pytest.mark.parametrize(
    "give", [setting(nfq.NF_QUEUE_NR(2)), lambda packet: packet.requeue(2)], ids=["NR", "requeue"]
)
def test_requeue(handle: Handle, udp: UdpPair, give: Callable[[Packet], None]) -> None:
    """A packet can be passed on to another queue."""
    seen: list[bytes] = []

    def second(packet: Packet) -> None:
        assert packet.queue.number == 2
        seen.append(data_of(packet))
        packet.accept()

    queue_with(handle, give)
    queue_with(handle, second, number=2)
    udp.send(b"data")
    assert handle.process(timeout=None) == 1
    assert (seen, udp.arrivals()) == ([], [])
    assert handle.process(timeout=None) == 1
    assert (seen, udp.arrivals()) == ([b"data"], [b"data"])


def test_plain_queue_means_queue_0(handle: Handle, udp: UdpPair) -> None:
    """NF_QUEUE without a number passes the packet on to queue 0."""
    queue_with(handle, setting(nfq.NF_QUEUE))
    queue_with(handle, accept, number=0)
    udp.send(b"data")
    assert handle.process(timeout=None) == 1
    assert udp.arrivals() == []
    assert handle.process(timeout=None) == 1
    assert udp.arrivals() == [b"data"]


@pytest.mark.parametrize(("bypass", "arrivals"), [(False, []), (True, [b"data"] * 2)])
def test_requeue_where_nobody_listens(
    handle: Handle, udp: UdpPair, bypass: bool, arrivals: list[bytes]
) -> None:
    """A packet that is requeued where no queue is bound is dropped, unless it may bypass it."""

    def callback(packet: Packet) -> None:
        if packet.id == 1:
            packet.set_verdict(nfq.NF_QUEUE_NR(77, bypass))
        else:
            packet.requeue(77, bypass=bypass)

    queue_with(handle, callback)
    udp.send(b"data", b"data")
    handle.process(timeout=None)
    assert udp.arrivals() == arrivals


def test_stolen_leaves_nothing_stuck(handle: Handle, udp: UdpPair) -> None:
    """Stolen packets leave their places in the queue to the next ones."""
    queue_with(handle, setting(nfq.NF_STOLEN)).set_maxlen(1)
    for _ in range(3):
        udp.send(b"data")
        assert handle.process(timeout=None) == 1
    assert handle.stats().verdict_errors == 0
    assert udp.arrivals() == []


@pytest.mark.parametrize(
    "verdict", [-1, 6, 255, 256, 0x10000, 0x10001, 0x00010006, 1 << 32, 1 << 64]
)
def test_invalid(handle: Handle, udp: UdpPair, verdict: int) -> None:
    """An invalid verdict is refused, nothing is sent, and the packet can still get a real one."""
    (packet,) = keep_packets(handle, udp, b"data")
    with pytest.raises(ValueError, match="set_verdict"):
        packet.set_verdict(verdict)
    assert packet.verdict is None
    assert handle.stats().verdicts == 0
    packet.accept()
    assert udp.arrivals() == [b"data"]
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


def test_invalid_in_callback(handle: Handle, udp: UdpPair) -> None:
    """An invalid verdict in a callback is refused, and the one that was set before counts."""

    def callback(packet: Packet) -> None:
        packet.accept()
        with pytest.raises(ValueError, match="6"):
            packet.set_verdict(6)

    queue_with(handle, callback)
    udp.send(b"data")
    handle.process(timeout=None)
    assert udp.arrivals() == [b"data"]


# When it is executed


def test_executed_when_the_callback_exits(handle: Handle, udp: UdpPair) -> None:
    """While the callback runs, the packet stays; then it goes."""
    arrived_meanwhile: list[bytes] = []

    def callback(packet: Packet) -> None:
        packet.accept()
        assert packet.verdict is nfq.NF_ACCEPT
        arrived_meanwhile.extend(udp.arrivals())

    queue_with(handle, callback)
    udp.send(b"data")
    handle.process(timeout=None)
    assert arrived_meanwhile == []
    assert udp.arrivals() == [b"data"]


def test_last_one_counts(handle: Handle, udp: UdpPair) -> None:
    """The last verdict set in the callback counts, with all its options."""
    old = b"marked"

    def callback(packet: Packet) -> None:
        assert packet.verdict is None
        packet.set_verdict(nfq.NF_DROP)
        packet.set_verdict(nfq.NF_REPEAT, mark=5)
        if data_of(packet) == old:
            packet.set_verdict(nfq.NF_ACCEPT)
        else:
            packet.set_verdict(nfq.NF_DROP)
        assert packet.verdict in (nfq.NF_ACCEPT, nfq.NF_DROP)

    iptables("-t mangle -A POSTROUTING -m mark --mark 5 -j DROP")
    queue_with(handle, callback)
    udp.send(b"marked", b"other")
    assert handle.process(timeout=None) == 2
    assert handle.process() == 0
    assert udp.arrivals() == [b"marked"]


def test_kept_in_any_order(handle: Handle, udp: UdpPair) -> None:
    """Kept packets get their verdicts later, in any order, each at once."""
    first, second, third, fourth = keep_packets(handle, udp, b"1", b"2", b"3", b"4")
    assert udp.arrivals() == []
    third.accept()
    assert udp.arrivals() == [b"3"]
    fourth.drop()
    first.accept()
    second.accept()
    assert udp.arrivals() == [b"1", b"2"]
    assert [packet.verdict for packet in (first, second, third, fourth)] == [1, 1, 1, 0]


@pytest.mark.parametrize("again", [nfq.NF_ACCEPT, nfq.NF_DROP])
def test_once(handle: Handle, udp: UdpPair, again: int) -> None:
    """A kept packet's second verdict is an error and changes nothing."""
    (packet,) = keep_packets(handle, udp, b"data")
    packet.accept()
    with pytest.raises(nfq.VerdictError):
        packet.set_verdict(again)
    assert packet.verdict is nfq.NF_ACCEPT
    assert udp.arrivals() == [b"data"]
    assert handle.stats().verdicts == 1


def test_once_after_the_callback(handle: Handle, udp: UdpPair) -> None:
    """A second verdict after the callback's own has been executed is an error."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        packet.drop()
        kept.append(packet)

    queue_with(handle, callback)
    udp.send(b"data")
    handle.process(timeout=None)
    with pytest.raises(nfq.VerdictError):
        kept[0].accept()
    assert kept[0].verdict is nfq.NF_DROP
    assert udp.arrivals() == []


# Without a verdict of its own


@pytest.mark.parametrize(("default", "arrivals"), [(nfq.NF_DROP, []), (nfq.NF_ACCEPT, [b"data"])])
def test_forgotten(
    handle: Handle, udp: UdpPair, default: nfq.Verdict, arrivals: list[bytes]
) -> None:
    """A packet that its callback gave no verdict and nobody keeps gets the default."""
    queue = queue_with(handle, lambda packet: None, default)
    assert queue.default_verdict == default
    udp.send(b"data")
    handle.process(timeout=None)
    assert udp.arrivals() == arrivals
    assert handle.stats().defaulted == 1


def test_dropped_reference(handle: Handle, udp: UdpPair) -> None:
    """A kept packet gets the default when the last reference goes; a view is not a reference."""
    kept: list[Packet] = []
    queue_with(handle, kept.append, nfq.NF_ACCEPT)
    udp.send(b"data")
    handle.process(timeout=None)
    view = kept[0].payload
    assert udp.arrivals() == []
    kept.clear()
    gc.collect()
    assert udp.arrivals() == [b"data"]
    assert view[28:].tobytes() == b"data"
    assert handle.stats().defaulted == 1


def test_reference_dropped_in_another_thread(handle: Handle, udp: UdpPair) -> None:
    """A packet gets the default in whichever thread its last reference goes."""
    kept: list[Packet] = []
    queue_with(handle, kept.append, nfq.NF_ACCEPT)
    udp.send(b"data")
    handle.process(timeout=None)
    background(kept.clear).result(TIMEOUT)
    assert udp.arrivals() == [b"data"]


def test_default_can_be_changed(handle: Handle, udp: UdpPair) -> None:
    """The default is the one at the time when it is given."""
    kept: list[Packet] = []
    queue = queue_with(handle, kept.append)
    assert queue.default_verdict == nfq.NF_DROP
    udp.send(b"1", b"2")
    handle.process(timeout=None)
    queue.default_verdict = nfq.NF_ACCEPT
    assert queue.default_verdict == nfq.NF_ACCEPT
    del kept[0]
    queue.default_verdict = nfq.NF_DROP
    del kept[0]
    assert udp.arrivals() == [b"1"]


def test_default_to_another_queue(handle: Handle, udp: UdpPair) -> None:
    """The default can be any verdict."""
    queue_with(handle, lambda packet: None, nfq.NF_QUEUE_NR(2))
    queue_with(handle, accept, number=2)
    udp.send(b"data")
    assert handle.process(timeout=None) == 1
    assert handle.process(timeout=None) == 1
    assert udp.arrivals() == [b"data"]


def test_own_verdict_is_no_default(handle: Handle, udp: UdpPair) -> None:
    """Packets that got their own are not counted."""
    queue_with(handle, accept, nfq.NF_ACCEPT)
    udp.send(b"1", b"2")
    handle.process(timeout=None)
    assert handle.stats().defaulted == 0
    assert handle.stats().verdicts == 2


# Exceptions


class CallbackError(Exception):
    """What callbacks raise here."""


def test_exception_propagates_after_the_batch(handle: Handle, udp: UdpPair) -> None:
    """All packets are dispatched; the failed one has its default verdict at once."""
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        if data_of(packet) == b"2":
            raise CallbackError("two")
        packet.drop()

    queue_with(handle, callback, nfq.NF_ACCEPT)
    udp.send(b"1", b"2", b"3")
    with pytest.raises(CallbackError, match="two") as raised:
        handle.process(timeout=None)
    assert seen == [b"1", b"2", b"3"]
    assert udp.arrivals() == [b"2"]  # though the traceback refers to the packet
    assert raised.tb is not None
    assert handle.stats().defaulted == 1
    udp.send(b"4")
    assert handle.process(timeout=None) == 1


@pytest.mark.parametrize("kept", [False, True])
def test_exception_after_a_verdict(handle: Handle, udp: UdpPair, kept: bool) -> None:
    """If the callback raises, a verdict that it had set counts."""
    packets: list[Packet] = []

    def callback(packet: Packet) -> None:
        if kept:
            packets.append(packet)
        packet.accept()
        raise CallbackError

    queue_with(handle, callback)
    udp.send(b"data")
    with pytest.raises(CallbackError):
        handle.process(timeout=None)
    assert udp.arrivals() == [b"data"]
    assert handle.stats().defaulted == 0


def test_kept_and_failed(handle: Handle, udp: UdpPair) -> None:
    """A packet whose callback raised has its verdict, even if it was kept."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        kept.append(packet)
        raise CallbackError

    queue_with(handle, callback, nfq.NF_ACCEPT)
    udp.send(b"data")
    with pytest.raises(CallbackError):
        handle.process(timeout=None)
    assert udp.arrivals() == [b"data"]
    assert kept[0].verdict == nfq.NF_ACCEPT
    with pytest.raises(nfq.VerdictError):
        kept[0].drop()


def test_further_exceptions(handle: Handle, udp: UdpPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first exception propagates, further ones go to sys.unraisablehook."""
    unraisable: list[str] = []

    def callback(packet: Packet) -> None:
        raise CallbackError(data_of(packet).decode())

    queue_with(handle, callback)
    udp.send(b"1", b"2", b"3")
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(str(args.exc_value)))
    with pytest.raises(CallbackError, match="1"):
        handle.process(timeout=None)
    assert unraisable == ["2", "3"]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_every_exception_propagates(
    handle: Handle, udp: UdpPair, exception: type[BaseException]
) -> None:
    """Exceptions that are not errors propagate too, with nothing left behind."""

    def callback(packet: Packet) -> None:
        raise exception

    queue_with(handle, callback, nfq.NF_ACCEPT)
    udp.send(b"data")
    with pytest.raises(exception):
        handle.process(timeout=None)
    assert udp.arrivals() == [b"data"]


# Callbacks


class Acceptor:
    """Something with a method that is a callback, and that is one itself."""

    def __call__(self, packet: Packet) -> None:
        packet.accept()

    def method(self, packet: Packet) -> str:
        packet.accept()
        return "ignored"


@pytest.mark.parametrize(
    "callback",
    [
        accept,
        lambda packet: packet.accept(),
        Acceptor(),
        Acceptor().method,
        functools.partial(nfq.NetfilterQueueData.set_verdict, verdict=nfq.NF_ACCEPT),
        nfq.NetfilterQueueData.accept,
    ],
    ids=["function", "lambda", "object", "method", "partial", "descriptor"],
)
def test_callback(handle: Handle, udp: UdpPair, callback: Callable[[Packet], None]) -> None:
    """Whatever can be called with a packet is a callback; what it returns doesn't matter."""
    queue_with(handle, callback)
    udp.send(b"data")
    assert handle.process(timeout=None) == 1
    assert udp.arrivals() == [b"data"]
