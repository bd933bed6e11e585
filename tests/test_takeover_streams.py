# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams on handles that were opened before: kept ones above all."""

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio as real_trio
from available import GEVENT
from netns import UdpPair
from queues import Packet, accept, data_of, process_until

import libnetfilterqueue as nfq
from libnetfilterqueue import aio, trio


async def test_closed_with_the_stream(handle: nfq.NetfilterQueueHandle) -> None:
    """The stream uses the handle that it is given, and closes it."""
    async with aio.open_queue(1, handle=handle) as stream:
        assert stream.handle is handle
        with nfq.open() as other, pytest.raises(PermissionError):
            other.create_queue(1, accept)
    assert handle.closed


def leave_two(handle: nfq.NetfilterQueueHandle, udp: UdpPair) -> socket.socket:
    """The socket of a process that has read two datagrams, and ends before it answers them."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    udp.send(b"1", b"2")
    process_until(handle, lambda: len(packets) == 2)
    return socket.socket(fileno=handle.detach())


def streams() -> Iterator[Any]:
    """Those without await: for programs without a loop, and gevent's."""
    yield pytest.param(nfq, id="no-loop")
    if GEVENT:
        from libnetfilterqueue import green  # noqa: PLC0415 (not everywhere)

        yield pytest.param(green, id="gevent")


@pytest.mark.parametrize("module", [*streams()])
def test_without_await(handle: nfq.NetfilterQueueHandle, udp: UdpPair, module: Any) -> None:
    """The same for programs without a loop, and in gevent."""
    seen: list[bytes] = []
    with leave_two(handle, udp) as kept:
        adopted = nfq.open(fd=kept)
        with module.open_queue(1, handle=adopted, unanswered=nfq.NF_REPEAT) as packets:
            for packet in packets:
                seen.append(data_of(packet))
                packet.accept()
                if len(seen) == 2:
                    packets.stop()
        assert adopted.closed
    assert udp.arrivals() == seen == [b"1", b"2"]


def test_in_trio(handle: nfq.NetfilterQueueHandle, udp: UdpPair) -> None:
    """The same for trio."""
    seen: list[bytes] = []

    async def main(adopted: nfq.NetfilterQueueHandle) -> None:
        async with trio.open_queue(1, handle=adopted, unanswered=nfq.NF_REPEAT) as packets:
            async for packet in packets:
                seen.append(data_of(packet))
                packet.accept()
                if len(seen) == 2:
                    packets.stop()

    with leave_two(handle, udp) as kept:
        adopted = nfq.open(fd=kept)
        real_trio.run(main, adopted)
        assert adopted.closed
    assert udp.arrivals() == seen == [b"1", b"2"]


async def test_takes_over(handle: nfq.NetfilterQueueHandle, udp: UdpPair) -> None:
    """unanswered= is create_queue's."""
    with leave_two(handle, udp) as kept:
        seen: list[bytes] = []
        stream = aio.open_queue(1, handle=nfq.open(fd=kept), unanswered=nfq.NF_REPEAT)
        async with stream:
            async for packet in stream:
                seen.append(data_of(packet))
                packet.accept()
                if len(seen) == 2:
                    stream.stop()
        assert udp.arrivals() == seen == [b"1", b"2"]


async def test_detached_under_a_stream(handle: nfq.NetfilterQueueHandle, udp: UdpPair) -> None:
    """The stream ends, and what it has not handed out waits for the next process."""
    async with aio.open_queue(1, handle=handle) as stream:
        udp.send(b"1", b"2")
        packet = await stream.get()
        descriptor = handle.detach()
        with pytest.raises(nfq.ClosedError):
            await asyncio.wait_for(stream.get(), 60)
    with nfq.open(fd=descriptor) as successor:
        os.close(descriptor)
        successor.create_queue(1, accept, unanswered=nfq.NF_ACCEPT)
        successor.process()
        assert udp.arrivals() == [b"1", b"2"]
    with pytest.raises(nfq.ClosedError):
        packet.accept()


def test_netns_of_a_handle(handle: nfq.NetfilterQueueHandle) -> None:
    """A handle has its namespace already."""
    with pytest.raises(ValueError, match="exclude each other"):
        aio.open_queue(1, handle=handle, netns="/proc/self/ns/net")
    with pytest.raises(TypeError, match="handle must be a NetfilterQueueHandle"):
        aio.open_queue(1, handle=1)  # type: ignore[arg-type]
