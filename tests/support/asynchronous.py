# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of libnetfilterqueue.aio share; conftest.py makes the fixtures known."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from netns import TIMEOUT, UdpPair
from queues import Packet

from libnetfilterqueue import aio

Contexts = list[dict[str, Any]]


async def eventually(done: Callable[[], object]) -> None:
    """Waits until something has come true."""
    async with asyncio.timeout(TIMEOUT):
        while not done():  # noqa: ASYNC110 (nobody here knows when that is)
            await asyncio.sleep(0.001)


async def turn() -> None:
    """Lets everything that is due have its turn, however late the loop's timers are."""
    for seconds in [0] * 10 + [0.002] + [0] * 10:
        await asyncio.sleep(seconds)


def accept_all(packets: list[Packet]) -> None:
    for packet in packets:
        packet.accept()


@pytest.fixture
async def contexts() -> Contexts:
    """What the loop's exception handler is told."""
    told: Contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Neither a task nor a descriptor is left by the test."""
    await turn()
    before = set(os.listdir("/proc/self/fd"))
    yield
    await turn()
    assert set(os.listdir("/proc/self/fd")) <= before  # an earlier test's garbage may go meanwhile
    assert asyncio.all_tasks() - {asyncio.current_task()} == set()


@pytest.fixture
async def stream(udp: UdpPair, nothing_left: None) -> AsyncIterator[aio.PacketStream]:
    """A stream of what `udp` sends."""
    async with aio.open_queue(1) as stream:
        yield stream
