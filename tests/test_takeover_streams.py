# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams on handles that were opened before: kept ones above all."""

import asyncio
import os
import socket

import pytest
from netns import UdpPair
from queues import Packet, accept, data_of, process_until

import libnetfilterqueue as nfq
from libnetfilterqueue import aio


async def test_closed_with_the_stream(handle: nfq.NetfilterQueueHandle) -> None:
    """The stream uses the handle that it is given, and closes it."""
    async with aio.open_queue(1, handle=handle) as stream:
        assert stream.handle is handle
        with nfq.open() as other, pytest.raises(PermissionError):
            other.create_queue(1, accept)
    assert handle.closed


async def test_takes_over(handle: nfq.NetfilterQueueHandle, udp: UdpPair) -> None:
    """unanswered= is create_queue's."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    udp.send(b"1", b"2")
    process_until(handle, lambda: len(packets) == 2)
    with socket.socket(fileno=handle.detach()) as kept:
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
