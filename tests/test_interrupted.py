# SPDX-License-Identifier: GPL-2.0-or-later
"""Signal handlers that end a stream, or raise, between any two lines of what a call does."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import asynchronous
import pytest
from available import GEVENT
from netns import TIMEOUT, UdpPair
from nurseries import in_trio
from played_kernel import PlayedKernel, packet_message
from queues import Packet
from signals import interrupted

import libnetfilterqueue as nfq
from libnetfilterqueue import aio, trio

if GEVENT:
    import gevent
    from gevent.socket import wait_read

    from libnetfilterqueue import green

Stream = Any  # an adapter's

every_call = pytest.mark.parametrize("call", ["pause", "resume"])
every_act = pytest.mark.parametrize("act", ["close", "stop"])


def interrupt(stream: Stream, call: str, act: str, line: int, udp: UdpPair) -> bool:
    """A signal handler ends the stream before so many lines of a call; False if it has less."""
    if call == "resume":
        stream.pause()
    came = interrupted(line, getattr(stream, call), getattr(stream, act))
    if came and act == "stop":
        udp.send(b"late")  # which stays in the kernel
    return came


@contextlib.contextmanager
def ready() -> Iterator[list[int]]:
    """Readable descriptors; they get the numbers of those that were closed last."""
    descriptors = [os.eventfd(1) for _ in range(4)]
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


async def watch(descriptor: int) -> None:
    """The running loop says that it is readable."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    async with asyncio.timeout(TIMEOUT):
        await readable.wait()
    loop.remove_reader(descriptor)


@every_call
@every_act
async def test_asyncio(call: str, act: str, udp: UdpPair, nothing_left: None) -> None:
    """The stream reads nothing more, and the loop knows its descriptors no more."""
    for line in itertools.count():
        async with aio.open_queue(1) as stream:
            if not interrupt(stream, call, act, line, udp):
                break
            await asynchronous.turn()
            assert stream.handle.stats().packets == 0
        with ready() as descriptors:
            for descriptor in descriptors:
                await watch(descriptor)
    assert line > 10


@pytest.mark.gevent
@every_call
@every_act
def test_gevent(call: str, act: str, udp: UdpPair) -> None:
    """The same in gevent."""
    for line in itertools.count():
        with green.open_queue(1) as stream:
            if not interrupt(stream, call, act, line, udp):
                break
            for _ in range(3):
                gevent.sleep(0.0003)
            assert stream.handle.stats().packets == 0
        with ready() as descriptors:
            for descriptor in descriptors:
                wait_read(descriptor, timeout=TIMEOUT)
    assert line > 10


@every_call
@every_act
@in_trio
async def test_trio(call: str, act: str, udp: UdpPair) -> None:
    """The same in trio, where the stream's readers read."""
    for line in itertools.count():
        async with trio.open_queue(1) as stream:
            if not interrupt(stream, call, act, line, udp):
                break
            assert [packet async for packet in stream] == []
    assert line > 10


@every_call
@every_act
def test_without_a_loop(call: str, act: str, udp: UdpPair) -> None:
    """The same without a loop."""
    for line in itertools.count():
        with nfq.open_queue(1) as stream:
            if not interrupt(stream, call, act, line, udp):
                break
            assert list(stream) == []
    assert line > 10


# Signal handlers that raise


@contextlib.contextmanager
def attached(packets: list[Packet]) -> Iterator[PlayedKernel]:
    """A handle that the running loop feeds, and whose errors the loop keeps to itself."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with PlayedKernel() as kernel:
        kernel.create_queue(1, packets.append)
        with aio.attach(kernel.handle):
            kernel.socket.send(packet_message())
            yield kernel


def interrupt_and_raise(line: int, call: Callable[[], object]) -> bool:
    """Whether a signal handler's exception came before so many lines of a call."""
    came = False

    def act() -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt, BlockingIOError):
        interrupted(line, call, act)
    return came


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a destructor
@pytest.mark.parametrize("deaf", [False, True])
async def test_verdict_leaves(deaf: bool) -> None:
    """Whatever is interrupted that sees to it, a verdict is sent, sooner or later."""
    for line in itertools.count():
        packets: list[Packet] = []
        with attached(packets) as kernel:
            await asynchronous.eventually(packets.copy)
            if deaf:
                with kernel.deaf():
                    packets[0].accept()
                    came = interrupt_and_raise(line, kernel.handle.flush)
                    await asynchronous.turn()
            else:
                came = interrupt_and_raise(line, packets[0].accept)
            await asynchronous.eventually(kernel.verdicts)
        if not came:
            break
    assert line > 3
