# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts that are held back until flush() or the next dispatch."""

import contextlib
import errno
import time
from collections.abc import Iterator

import pytest
from loops import LOOPS
from netns import TIMEOUT, UdpPair, background
from played_kernel import PlayedKernel, SentVerdict, packet_message
from queues import Handle, Packet, process_until

import libnetfilterqueue as nfq
from libnetfilterqueue._feed import RETRY, Feed

COPY = nfq.NFQNL_COPY_PACKET


def keep(handle: Handle, udp: UdpPair, *data: bytes) -> list[Packet]:
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    udp.send(*data)
    assert handle.process() == len(data)
    return packets


def test_flush(handle: Handle, udp: UdpPair) -> None:
    """Nothing is sent before flush(), which sends all at once; a second one does nothing."""
    packets = keep(handle, udp, b"1", b"2", b"3")
    assert handle.autoflush is True
    handle.autoflush = False
    before = handle.stats().sends
    for packet in packets:
        packet.accept()
    assert udp.arrivals() == []
    assert handle.stats().sends == before
    handle.flush()
    handle.flush()
    assert udp.arrivals() == [b"1", b"2", b"3"]
    assert handle.stats().sends == before + 1


def test_next_dispatch(handle: Handle, udp: UdpPair) -> None:
    """The next dispatch sends the verdicts that are held back."""
    packets = keep(handle, udp, b"1", b"2")
    handle.autoflush = False
    packets[0].accept()
    udp.send(b"3")
    assert handle.process() == 1
    assert udp.arrivals() == [b"1"]


def test_hold_limit(handle: Handle, udp: UdpPair) -> None:
    """A verdict that is given later than the limit allows takes with it what is held."""
    packets = keep(handle, udp, b"1", b"2", b"3", b"4")
    assert handle.hold_limit is None
    handle.autoflush = False
    handle.hold_limit = TIMEOUT
    packets[0].accept()
    assert udp.arrivals() == []
    handle.hold_limit = 0
    assert udp.arrivals() == []
    packets[1].accept()
    assert udp.arrivals() == [b"1", b"2"]
    handle.hold_limit = 0.001
    time.sleep(0.0011)
    packets[2].accept()
    assert udp.arrivals() == [b"3"]
    handle.hold_limit = None
    packets[3].accept()
    assert udp.arrivals() == []
    handle.flush()
    assert udp.arrivals() == [b"4"]


def test_hold_limits(handle: Handle) -> None:
    """The limit is None or a number of seconds."""
    for seconds in (0, 0.25, 3, None):
        handle.hold_limit = seconds
        assert handle.hold_limit == seconds
    with pytest.raises(ValueError, match="hold_limit must be at least 0 or None"):
        handle.hold_limit = -1
    with pytest.raises(TypeError, match="hold_limit must be a number of seconds or None"):
        handle.hold_limit = "1"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="hold_limit can't be deleted"):
        del handle.hold_limit


def test_autoflush_set_again(handle: Handle, udp: UdpPair) -> None:
    """Switching autoflush on sends what waits."""
    packets = keep(handle, udp, b"1")
    handle.autoflush = False
    packets[0].accept()
    handle.autoflush = True
    assert udp.arrivals() == [b"1"]


def test_verdicts_of_callbacks_are_not_held(handle: Handle, udp: UdpPair) -> None:
    """Verdicts of callbacks are sent with their dispatch."""
    handle.autoflush = False
    handle.create_queue(1, Packet.accept, mode=COPY)
    udp.send(b"data")
    handle.process()
    assert udp.arrivals() == [b"data"]


def test_close_sends_what_is_held(handle: Handle, udp: UdpPair) -> None:
    """Closing the handle and destroying the queue send what is held."""
    packets = keep(handle, udp, b"1", b"2")
    handle.autoflush = False
    packets[0].accept()
    handle.close()
    assert udp.arrivals() == [b"1"]


def test_on_held(handle: Handle, udp: UdpPair) -> None:
    """on_held is called each time that verdicts begin to be held, in the thread that gives them."""
    packets = keep(handle, udp, b"1", b"2", b"3")
    calls: list[str] = []
    handle.on_held = lambda: calls.append("held")
    packets[0].accept()
    assert calls == []
    handle.autoflush = False
    background(packets[1].accept).result(TIMEOUT)
    packets[2].accept()
    assert calls == ["held"]
    handle.flush()
    udp.send(b"4")
    handle.process()
    packets[3].accept()
    assert calls == ["held", "held"]
    handle.flush()
    assert udp.arrivals() == [b"1", b"2", b"3", b"4"]


def test_on_held_after_a_queue_that_was_refused() -> None:
    """After a queue that could not be bound, the next held verdict calls on_held again."""
    packets: list[Packet] = []
    told: list[bool] = []
    with PlayedKernel() as kernel:
        kernel.create_queue(1, packets.append)
        kernel.handle.autoflush = False
        kernel.handle.on_held = lambda: told.append(True)
        creating = background(kernel.handle.create_queue, 2, packets.append)
        binding = kernel.request()
        for number in (1, 2):
            kernel.socket.send(packet_message(number=number))
        process_until(kernel.handle, lambda: len(packets) == 2)
        packets[1].accept()
        assert len(told) == 1
        kernel.answer(binding, errno.EPERM)
        kernel.answer(kernel.request())  # for which it asks whether anything is permitted
        with pytest.raises(PermissionError):
            creating.result(TIMEOUT)
        packets[0].accept()
        assert len(told) == 2


def test_on_close(handle: Handle) -> None:
    """on_close is called once, while the descriptor is still open."""
    calls: list[int] = []
    handle.on_close = lambda: calls.append(handle.fd())
    descriptor = handle.fd()
    handle.close()
    handle.close()
    assert calls == [descriptor]
    assert handle.on_close is None


def test_hooks_that_fail() -> None:
    """Exceptions of on_held and on_close go to the unraisable hook; nothing is left undone."""

    def fail() -> None:
        raise KeyError

    with PlayedKernel() as kernel, pytest.MonkeyPatch.context() as patch:
        unraisable: list[object] = []
        patch.setattr("sys.unraisablehook", lambda args: unraisable.append(args.exc_type))
        packets: list[Packet] = []
        kernel.create_queue(1, packets.append)
        kernel.handle.handle_packet(packet_message(1))
        kernel.handle.autoflush = False
        kernel.handle.on_held = fail
        kernel.handle.on_close = fail
        packets[0].accept()
        with kernel.answering():
            kernel.handle.close()
        assert kernel.handle.closed
        assert [verdict.verdict for verdict in kernel.verdicts() if not verdict.batch] == [1]
        assert unraisable == [KeyError, KeyError]


@pytest.mark.parametrize("name", ["on_held", "on_unsent", "on_close", "on_verdict_error"])
def test_hooks_are_callable_or_none(handle: Handle, name: str) -> None:
    """on_held and on_close are callables or None, and start as None."""
    assert getattr(handle, name) is None
    with pytest.raises(TypeError, match="5"):
        setattr(handle, name, 5)
    setattr(handle, name, print)
    assert getattr(handle, name) is print
    setattr(handle, name, None)
    assert getattr(handle, name) is None


def test_closed_handle(handle: Handle) -> None:
    """On a closed handle flush() and autoflush are refused."""
    handle.close()
    with pytest.raises(nfq.ClosedError, match=r"flush\(\): the handle is closed"):
        handle.flush()
    with pytest.raises(nfq.ClosedError, match="autoflush: the handle is closed"):
        handle.autoflush = False
    with pytest.raises(nfq.ClosedError, match="hold_limit: the handle is closed"):
        handle.hold_limit = 1


@pytest.mark.parametrize("loop_name", [name for name in LOOPS if name not in ("manual", "trio")])
@pytest.mark.parametrize("later", [False, True])
def test_adapters_without_room(loop_name: str, later: bool) -> None:
    """The loop's handler gets verdicts that have no room; they are sent when there is room."""
    packets: list[Packet] = []

    def callback(packet: Packet) -> None:
        packets.append(packet)
        if not later:
            packet.accept()

    with PlayedKernel() as kernel, contextlib.closing(LOOPS[loop_name]()) as loop:
        kernel.create_queue(1, callback)
        with loop.feed(kernel.handle):
            with kernel.deaf():
                kernel.socket.send(packet_message())
                loop.until(lambda: packets)
                if later:
                    packets[0].accept()
                loop.until(lambda: loop.errors)
            sent: list[SentVerdict] = []

            def is_sent() -> bool:
                sent.extend(kernel.verdicts())
                return bool(sent)

            loop.until(is_sent)
        sent += kernel.verdicts()
        assert [verdict.packet_id for verdict in sent] == [1]
        assert {type(error) for error in loop.errors} == {BlockingIOError}


@pytest.mark.parametrize("loop_name", [name for name in LOOPS if name != "manual"])
def test_default_without_room(loop_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default verdict that had no room is tried again, now and then, until there is room."""
    packets: list[Packet] = []
    sent: list[SentVerdict] = []
    tries: list[float] = []
    retry = Feed._retry

    def noted_retry(feed: Feed) -> None:
        tries.append(time.monotonic())
        retry(feed)

    def script(kernel: PlayedKernel) -> Iterator[bool]:
        kernel.socket.send(packet_message())
        while not packets:
            yield False
        with kernel.deaf():
            packets.clear()
            while len(tries) < 3:
                yield False
        while not sent:
            sent.extend(kernel.verdicts())
            yield False

    monkeypatch.setattr(Feed, "_retry", noted_retry)
    with PlayedKernel() as kernel, contextlib.closing(LOOPS[loop_name]()) as loop:
        kernel.create_queue(1, packets.append)
        with loop.feed(kernel.handle):
            steps = script(kernel)
            loop.until(lambda: next(steps, True))
        assert loop.errors == []
    assert [verdict.packet_id for verdict in sent] == [1]
    assert tries[2] - tries[0] > RETRY  # it would be twice that, of a clock without grains


def test_on_unsent() -> None:
    """on_unsent is called where verdicts could not be sent, by a call or by a destructor."""
    packets: list[Packet] = []
    told: list[str] = []
    when = "room"
    with PlayedKernel() as kernel:
        kernel.create_queue(1, packets.append)
        for packet_id in (1, 2, 3):
            kernel.socket.send(packet_message(packet_id))
        assert kernel.handle.process() == 3
        kernel.handle.on_unsent = lambda: told.append(when)
        packets.pop()
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [3]
        with kernel.deaf():
            when = "call"
            with pytest.raises(BlockingIOError):
                packets[0].accept()
            when = "destructor"
            packets.pop()
            when = "flush"
            with pytest.raises(BlockingIOError):
                kernel.handle.flush()
        when = "room again"
        kernel.handle.flush()
        assert told == ["call", "destructor", "flush"]
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1, 2]


class Interruption(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, Interruption])
def test_on_unsent_raises(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exception goes to the unraisable hook, where it is called by a destructor."""
    packets: list[Packet] = []
    unraisable: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: unraisable.append(args.exc_type))

    def fail() -> None:
        raise error

    with PlayedKernel() as kernel:
        kernel.create_queue(1, packets.append)
        kernel.socket.send(packet_message())
        kernel.handle.process()
        kernel.handle.on_unsent = fail
        with kernel.deaf():
            packets.pop()
        kernel.handle.flush()
        assert unraisable == [error]
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1]
