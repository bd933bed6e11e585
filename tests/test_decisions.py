# SPDX-License-Identifier: GPL-2.0-or-later
"""A packet tells a decision from a default, and decide() asks for one: on both kernels."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio
from kernels import udp_packet
from netns import TIMEOUT
from queues import Handle, Packet, accept

import libnetfilterqueue as nfq
from libnetfilterqueue import aio
from libnetfilterqueue import trio as trio_adapter
from libnetfilterqueue.testing import Kernel, KernelPacket
from libnetfilterqueue.testing import _waiting as waiting

pytestmark = pytest.mark.parametrize("nfqueue", ["fake", "real"], indirect=True)

DATA = udp_packet(0, b"data", 1)


@pytest.fixture
def handle(nfqueue: Kernel) -> Iterator[Handle]:
    """An open handle of the kernel."""
    with nfq.open() as handle:
        yield handle


def fate(packet: KernelPacket) -> tuple[bool, bool, bool | None, str | None]:
    return packet.decided, packet.defaulted, packet.passed, packet.why


def raises(packet: Packet) -> None:
    raise ZeroDivisionError


def accepts_and_raises(packet: Packet) -> None:
    packet.accept()
    raise ZeroDivisionError


def nothing(packet: Packet) -> None:
    pass


# Why


@pytest.mark.parametrize("default", [nfq.NF_DROP, nfq.NF_ACCEPT])
def test_decided(nfqueue: Kernel, handle: Handle, default: nfq.Verdict) -> None:
    """A verdict of the program is a decision, also where it says what the default says."""
    handle.create_queue(1, accept, default_verdict=default)
    handle.create_queue(2, nfq.Packet.drop, default_verdict=default)
    accepted, dropped = nfqueue.enqueue(DATA), nfqueue.enqueue(DATA, 2)
    assert fate(accepted) == fate(dropped) == (False, False, None, None)
    handle.process()
    assert fate(accepted) == (True, False, True, None)
    assert fate(dropped) == (True, False, False, None)


@pytest.mark.parametrize("default", [nfq.NF_DROP, nfq.NF_ACCEPT])
@pytest.mark.parametrize(
    ("callback", "why"),
    [
        (raises, "its callback raised an exception"),
        (nothing, "nobody gave it a verdict, and nobody has it any more"),
    ],
)
def test_defaulted(
    nfqueue: Kernel,
    handle: Handle,
    callback: Callable[[Packet], None],
    why: str,
    default: nfq.Verdict,
) -> None:
    """A callback that decides nothing leaves its packet to the default, and the reason is told."""
    handle.create_queue(1, callback, default_verdict=default)
    packet = nfqueue.enqueue(DATA)
    with contextlib.suppress(ZeroDivisionError):
        handle.process()
    assert fate(packet) == (False, True, default == nfq.NF_ACCEPT, why)
    assert packet.verdict == default
    assert [verdict.default for verdict in packet.verdicts] == [why]
    assert repr(packet).endswith(f": {why}>")


def test_in_a_row(nfqueue: Kernel, handle: Handle) -> None:
    """Equal verdicts of one batch, decided and not, are told apart."""
    calls = iter([accept, nothing, nothing, accept, accepts_and_raises])

    def callback(packet: Packet) -> None:
        next(calls)(packet)

    handle.create_queue(1, callback, default_verdict=nfq.NF_ACCEPT)
    packets = nfqueue.enqueue_all([DATA] * 5)
    with pytest.raises(ZeroDivisionError):
        handle.process()
    assert [packet.decided for packet in packets] == [True, False, False, True, True]
    assert all(packet.passed for packet in packets)


def test_dropped_reference(nfqueue: Kernel, handle: Handle) -> None:
    """A kept packet that is let go had no verdict."""
    kept: list[Packet] = []
    handle.create_queue(1, kept.append)
    packet = nfqueue.enqueue(DATA)
    handle.process()
    kept.clear()
    assert packet.why == "nobody gave it a verdict, and nobody has it any more"


@pytest.mark.nfqueue(allow_undecided=True)
def test_end_of_queue(nfqueue: Kernel, handle: Handle) -> None:
    """The end of a queue is no decision."""
    kept: list[Packet] = []
    queue = handle.create_queue(1, kept.append, default_verdict=nfq.NF_ACCEPT)
    read, unread = nfqueue.enqueue_all([DATA, DATA])
    handle.process(max_packets=1)
    queue.destroy()
    assert (
        fate(read)
        == fate(unread)
        == (
            False,
            True,
            True,
            "its queue ended before it had a verdict",
        )
    )


@pytest.mark.nfqueue(allow_unbound=True, allow_refused=True)
def test_kernel(nfqueue: Kernel, handle: Handle) -> None:
    """What the kernel does by itself is no decision either."""
    handle.create_queue(1, accept, maxlen=1)
    handle.create_queue(2, accept, mode=None)
    handle.create_queue(3, lambda packet: packet.requeue(4))
    handle.create_queue(5, accept, maxlen=0, flags=nfq.NFQA_CFG_F_FAIL_OPEN)
    waits = nfqueue.enqueue(DATA)
    whys = {
        "queue 1 was full: maxlen is 1": nfqueue.enqueue(DATA),
        "queue 2 has no copy mode": nfqueue.enqueue(DATA, 2),
        "nobody has bound queue 4": nfqueue.enqueue(DATA, 3),
        "queue 5 was full: maxlen is 0": nfqueue.enqueue(DATA, 5),
        "no rule sends it to a queue": nfqueue.enqueue(DATA, match_mark=1),
        "flush() dropped it": waits,
    }
    nfqueue.flush(waits)
    handle.process()
    for why, packet in whys.items():
        assert (packet.decided, packet.defaulted, packet.why) == (False, True, why)
    assert [packet.passed for packet in whys.values()] == [False, False, False, True, True, False]


@pytest.mark.nfqueue(allow_undecided=True)
def test_full_buffer(nfqueue: Kernel, handle: Handle) -> None:
    """A packet without room in the receive buffer says so."""
    handle.rcvbuf = 4096
    handle.create_queue(1, accept)
    packets = nfqueue.enqueue_all([udp_packet(0, bytes(1400), 1)] * 5)
    assert packets[-1].why == "the handle's receive buffer was full"


def test_too_large(nfqueue: Kernel, handle: Handle) -> None:
    """A verdict that the socket has no room for is replaced by the default."""
    handle.create_queue(1, lambda packet: packet.accept(payload=bytes(60_000)))
    with socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    packet = nfqueue.enqueue(DATA)
    handle.process()
    assert packet.why == "its verdict was too large to be sent"


async def test_handler(nfqueue: Kernel) -> None:
    """A handler that ends without a verdict has not decided, which is counted as a default."""

    async def handler(packet: Packet) -> None:
        if packet.mark:
            packet.accept()

    async with aio.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        serving = asyncio.create_task(aio.serve(stream, handler))
        decided, defaulted = nfqueue.enqueue(DATA, mark=1), nfqueue.enqueue(DATA)
        assert (await decided).decided
        assert fate(await defaulted) == (
            False,
            True,
            True,
            "its handler ended without a verdict",
        )
        assert stream.handle.stats().defaulted == 1
        stream.stop()
        await serving


# decide()


def test_decide(nfqueue: Kernel) -> None:
    """A callback decides in a line, with the attributes that it looks at."""

    def callback(packet: Packet) -> None:
        if packet.mark == 5:
            packet.accept(mark=packet.priority)

    packet = nfqueue.decide(callback, DATA, mark=5, priority=6)
    assert (packet.decided, packet.passed, packet.mark) == (True, True, 6)
    packet = nfqueue.decide(callback, DATA)
    assert (packet.defaulted, packet.passed) == (True, False)
    assert nfqueue.decide(nothing, DATA, 7, default_verdict=nfq.NF_ACCEPT).passed
    with pytest.raises(ZeroDivisionError):
        nfqueue.decide(raises, DATA)
    assert nfqueue.queues == {}


@pytest.mark.nfqueue(allow_undecided=True)
def test_repeat(nfqueue: Kernel) -> None:
    """NF_REPEAT brings the packet back, and not for ever."""
    marks = []

    def callback(packet: Packet) -> None:
        marks.append(packet.mark)
        if packet.mark < 3:
            packet.repeat(mark=packet.mark + 1)
        else:
            packet.accept()

    assert nfqueue.decide(callback, DATA).passed
    assert marks == [0, 1, 2, 3]
    with pytest.raises(TimeoutError, match=r"decide\(\): .*repeat\(\) has not decided within 0.05"):
        nfqueue.decide(nfq.Packet.repeat, DATA, timeout=0.05)


async def decides(packet: Packet) -> None:
    await asyncio.sleep(0)
    packet.accept(mark=1)


async def decides_in_trio(packet: Packet) -> None:
    await trio.lowlevel.checkpoint()
    packet.accept(mark=1)


async def ends(packet: Packet) -> None:
    pass


async def fails(packet: Packet) -> None:
    raise ZeroDivisionError


async def test_asyncio(nfqueue: Kernel) -> None:
    """So does a handler in asyncio and uvloop."""
    packet = await nfqueue.decide(decides, DATA)
    assert (packet.decided, packet.passed, packet.mark) == (True, True, 1)
    packet = await nfqueue.decide(ends, DATA)
    assert packet.why == "its handler ended without a verdict"
    with pytest.raises(ZeroDivisionError):
        await nfqueue.decide(fails, DATA)
    assert nfqueue.queues == {}


async def test_asyncio_limit(nfqueue: Kernel) -> None:
    """A handler that does not end is told by name, and its own TimeoutError is its own."""

    async def waits(packet: Packet) -> None:
        await asyncio.sleep(TIMEOUT)

    async def has_own(packet: Packet) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match=r"waits\(\) has not decided within 0.05 seconds"):
        await nfqueue.decide(waits, DATA, timeout=0.05)
    with pytest.raises(TimeoutError, match="its own"):
        await nfqueue.decide(has_own, DATA)


def test_asyncio_in_a_line(nfqueue: Kernel) -> None:
    """Without a loop it is asyncio.run's, or trio.run's."""
    assert asyncio.run(nfqueue.decide(decides, DATA)).passed
    assert trio.run(nfqueue.decide, decides_in_trio, DATA).passed


def test_trio(nfqueue: Kernel) -> None:
    """So does a handler in trio."""

    async def waits(packet: Packet) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        packet = await nfqueue.decide(decides_in_trio, DATA)
        assert (packet.decided, packet.passed, packet.mark) == (True, True, 1)
        with pytest.raises(ZeroDivisionError):
            await nfqueue.decide(fails, DATA)
        with pytest.raises(TimeoutError, match=r"waits\(\) has not decided within 0.05 seconds"):
            await nfqueue.decide(waits, DATA, timeout=0.05)
        assert nfqueue.queues == {}

    trio.run(main)


@pytest.mark.gevent
def test_gevent(nfqueue: Kernel) -> None:
    """So does one that blocks greenlets, which is limited too."""
    import gevent  # noqa: PLC0415 (not every Python has it)

    def handler(packet: Packet, seconds: float = 0.01) -> None:
        gevent.sleep(seconds)
        packet.accept()

    assert nfqueue.decide(handler, DATA).decided
    with pytest.raises(TimeoutError, match=r"has not decided within 0\.05 seconds"):
        nfqueue.decide(partial(handler, seconds=TIMEOUT), DATA, timeout=0.05)


@pytest.mark.nfqueue(allow_undecided=True)
def test_wrong(nfqueue: Kernel, handle: Handle) -> None:
    """Wrong arguments, and a number that a program has bound, are told."""
    wrong: Callable[..., Any] = nfqueue.decide
    handle.create_queue(2, accept)
    expected: dict[type[Exception], dict[str, Any]] = {
        TypeError: {"colour": 1},
        ValueError: {"timeout": float("inf")},
        PermissionError: {"number": 2},
    }
    for error, arguments in expected.items():
        with pytest.raises(error):
            wrong(accept, DATA, **arguments)


# Waiting


def test_await_in_trio(nfqueue: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet, and what listens, can be awaited in trio, and cancelled; it has a limit."""

    async def program(packets: list[KernelPacket]) -> None:
        async with trio_adapter.open_queue(1) as stream:
            async for packet in stream:
                packet.accept()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program, [])
            await nfqueue.listening(1)
            assert (await nfqueue.enqueue(DATA)).passed
            with trio.move_on_after(0.01) as scope:
                await nfqueue.listening(2)
            assert scope.cancelled_caught
            monkeypatch.setattr(waiting, "TIMEOUT", 0.01)
            with pytest.raises(
                TimeoutError, match=r"listens on queue 2: not within 0\.01 seconds$"
            ):
                await nfqueue.listening(2)
            nursery.cancel_scope.cancel()

    trio.run(main)
