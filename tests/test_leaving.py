# SPDX-License-Identifier: GPL-2.0-or-later
"""Exceptions that are no Exception leave at once; what they leave behind comes next."""

import select
import signal
import sys
from collections.abc import Callable

import pytest
from netns import TIMEOUT, UdpPair
from played_kernel import PlayedKernel, aligned, packet_message
from queues import Handle, Packet, Raising, accept, data_of, netlink_socket

import libnetfilterqueue as nfq

LEAVING = [KeyboardInterrupt, SystemExit, GeneratorExit]
NUMBERS = [b"1", b"2", b"3", b"4", b"5"]


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """What sys.unraisablehook is told."""
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))
    return told


@pytest.mark.parametrize("leaving", LEAVING)
def test_no_further_callback(
    handle: Handle, udp: UdpPair, leaving: type[BaseException], unraisable: list[object]
) -> None:
    """The exception propagates before the next callback; the rest comes with the next call."""
    callback = Raising(n2=leaving)
    handle.create_queue(1, callback)
    udp.send(*NUMBERS)
    with pytest.raises(leaving):
        handle.process()
    assert callback.seen == [b"1", b"2"]
    assert udp.arrivals() == [b"1", b"2"]
    assert select.select([handle], [], [], TIMEOUT)[0] == [handle]
    assert handle.process() == 3
    assert callback.seen == NUMBERS
    assert udp.arrivals() == [b"3", b"4", b"5"]
    assert unraisable == []


def test_it_replaces_an_exception(
    handle: Handle, udp: UdpPair, unraisable: list[type[BaseException]]
) -> None:
    """An ordinary exception that came before goes to the unraisable hook."""
    callback = Raising(n1=KeyError, n2=ValueError, n3=KeyboardInterrupt, n4=KeyError)
    handle.create_queue(1, callback)
    udp.send(*NUMBERS)
    with pytest.raises(KeyboardInterrupt):
        handle.process()
    assert unraisable == [ValueError, KeyError]
    with pytest.raises(KeyError):
        handle.process()
    assert callback.seen == NUMBERS
    assert udp.arrivals() == NUMBERS


def test_rest_of_a_buffer() -> None:
    """Messages behind the packet in a buffer are set aside, with the bytes that they had then."""
    with PlayedKernel() as kernel:
        seen: list[int] = []

        def callback(packet: Packet) -> None:
            seen.append(packet.id)
            packet.accept()
            if packet.id == 1:
                raise KeyboardInterrupt

        kernel.create_queue(1, callback)
        buffer = bytearray(b"".join(aligned(packet_message(number)) for number in (1, 2, 3)))
        with pytest.raises(KeyboardInterrupt):
            kernel.handle.handle_packet(buffer)
        buffer[:] = bytes(len(buffer))
        assert seen == [1]
        assert kernel.handle.handle_packet(packet_message(4)) == 3
        assert seen == [1, 2, 3, 4]
        assert sorted(verdict.packet_id for verdict in kernel.verdicts()) in ([1, 4], [1, 2, 3, 4])


def test_rest_of_what_was_set_aside(handle: Handle, udp: UdpPair) -> None:
    """Packets that a configuration call set aside stay in their order."""
    callback = Raising(n2=SystemExit)
    queue = handle.create_queue(1, callback)
    udp.send(*NUMBERS)
    queue.set_maxlen(100)
    with pytest.raises(SystemExit):
        handle.process()
    assert callback.seen == [b"1", b"2"]
    udp.send(b"6")
    assert handle.process() == 4
    assert callback.seen == [*NUMBERS, b"6"]


def test_rest_goes_in_front_of_what_came_meanwhile(handle: Handle, udp: UdpPair) -> None:
    """The rest of the batch goes in front of what a callback has set aside."""

    def callback(packet: Packet) -> None:
        raising(packet) if data_of(packet) != b"1" else first(packet)

    def first(packet: Packet) -> None:
        udp.send(b"6")
        packet.queue.set_maxlen(100)
        raising(packet)

    raising = Raising(n1=KeyboardInterrupt)
    handle.create_queue(1, callback)
    udp.send(*NUMBERS)
    with pytest.raises(KeyboardInterrupt):
        handle.process()
    assert handle.process() == 5
    assert raising.seen == [*NUMBERS, b"6"]


def test_rest_gets_the_default_at_close(udp: UdpPair) -> None:
    """A handle that is closed instead gives the rest the default."""
    with nfq.open() as handle:
        handle.create_queue(1, Raising(n1=SystemExit), default_verdict=nfq.NF_ACCEPT)
        udp.send(*NUMBERS)
        with pytest.raises(SystemExit):
            handle.process()
    assert udp.arrivals() == NUMBERS


def test_packet_whose_callback_leaves(handle: Handle, udp: UdpPair) -> None:
    """The packet whose callback raises gets the default, as with any exception."""

    def callback(packet: Packet) -> None:
        raise SystemExit

    handle.create_queue(1, callback, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"1", b"2")
    for number in (b"1", b"2"):
        with pytest.raises(SystemExit):
            handle.process()
        assert udp.arrivals() == [number]


def test_nested_dispatch(handle: Handle, udp: UdpPair) -> None:
    """The exception leaves the outer dispatch too, if the outer callback lets it."""
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()
        if seen[-1] == b"1":
            handle.process()
        elif seen[-1] == b"6":
            raise KeyboardInterrupt

    queue = handle.create_queue(1, callback)
    udp.send(b"1", b"2")
    queue.set_maxlen(100)
    udp.send(b"6", b"7")
    with pytest.raises(KeyboardInterrupt):
        handle.process()
    assert seen == [b"1", b"2", b"6"]
    assert handle.process() == 1
    assert seen == [b"1", b"2", b"6", b"7"]


def test_signal_in_a_slow_callback(handle: Handle, udp: UdpPair) -> None:
    """Ctrl-C during a callback ends the dispatch before the other callbacks."""
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()
        if seen[-1] == b"2":
            signal.raise_signal(signal.SIGINT)

    handle.create_queue(1, callback)
    udp.send(*NUMBERS)
    with pytest.raises(KeyboardInterrupt):
        handle.process()
    assert seen == [b"1", b"2"]


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_in_on_verdict_error(handle: Handle, unraisable: list[object]) -> None:
    """The exception leaves on_verdict_error, and what is left is reported the next time."""
    told: list[int] = []

    def tell(number: int | None, packet_id: int, error: OSError) -> None:
        told.append(packet_id)
        if packet_id == 1:
            raise KeyboardInterrupt

    handle.on_verdict_error = tell
    queue = handle.create_queue(1, accept)
    with netlink_socket(handle):
        for packet_id in (1, 2):
            handle.handle_packet(packet_message(packet_id))  # which the kernel has never had
    with pytest.raises(KeyboardInterrupt):
        handle.process(timeout=TIMEOUT)
    assert handle.process() == 0
    assert told == [1, 2]
    assert unraisable == []
    assert not queue.destroyed


@pytest.mark.parametrize("name", ["on_held", "on_close"])
def test_in_other_hooks(udp: UdpPair, name: str, unraisable: list[object]) -> None:
    """The exception is not swallowed in on_held and on_close, and the call has done its work."""
    packets: list[Packet] = []
    handle = nfq.open()
    handle.create_queue(1, packets.append)
    udp.send(b"1")
    handle.process()
    handle.autoflush = False
    setattr(handle, name, raise_interrupt)
    call: Callable[[], None] = packets[0].accept if name == "on_held" else handle.close
    with pytest.raises(KeyboardInterrupt):
        call()
    handle.close()
    assert handle.closed
    assert udp.arrivals() == ([b"1"] if name == "on_held" else [])
    assert unraisable == []
