# SPDX-License-Identifier: GPL-2.0-or-later
"""Callbacks that switch greenlets, and so are suspended while others use the handle.

Under gevent all callbacks that block do; here no hub is between the greenlets and the handle. All
queues have NF_ACCEPT as their default verdict: a packet that does not arrive was lost or is stuck.
"""

import contextlib
import gc
import random
from collections.abc import Callable

import pytest
from greenlet import GreenletExit, getcurrent, greenlet
from netns import UdpPair
from queues import ROUNDS, Handle, Packet
from test_reentrancy import ANY_ACT, SENT, Act, create_queue

import libnetfilterqueue as nfq

pytestmark = pytest.mark.usefixtures("little_garbage")


def suspend(packet: Packet) -> None:
    """Switches to the greenlet that has started this one, if one has."""
    parent = getcurrent().parent
    if parent is not None:
        parent.switch(packet)


def suspend_and_accept(packet: Packet) -> None:
    suspend(packet)
    with contextlib.suppress(nfq.VerdictError):  # others may have given a batch verdict
        packet.accept()


@ANY_ACT
def test_others_act(udp: UdpPair, act: Act) -> None:
    """While a callback is suspended another greenlet acts: each packet passes once."""
    for _ in range(ROUNDS):
        with nfq.open() as handle:
            create_queue(handle, suspend_and_accept)
            udp.send(*SENT)
            processing = greenlet(handle.process)
            packet = processing.switch()
            while not processing.dead:
                act(packet)
                packet = processing.switch()
            assert packet > 0  # what process() returned
        assert sorted(udp.arrivals()) == SENT


END: dict[str, Callable[[Handle], object]] = {
    "close": Handle.close,
    "process": Handle.process,
    "nothing": bool,
}


@pytest.mark.parametrize("end", END.values(), ids=END)
def test_resumed_in_any_order(udp: UdpPair, end: Callable[[Handle], object]) -> None:
    """Several dispatches are suspended at once and go on in any order, some after the end."""
    for number in range(ROUNDS):
        with nfq.open() as handle:
            create_queue(handle, suspend_and_accept)
            udp.send(*SENT)
            processing = [greenlet(handle.process) for _ in SENT]
            for each in processing:
                each.switch(1)
            random.Random(number).shuffle(processing)
            for each in processing[: number % 3]:
                each.switch()
            end(handle)
            for each in processing[number % 3 :]:
                each.switch()
            assert all(each.dead for each in processing)
        assert sorted(udp.arrivals()) == SENT


@pytest.mark.parametrize("collected", [False, True])
def test_dropped_in_a_callback(udp: UdpPair, collected: bool) -> None:
    """A greenlet that is dropped while its callback is suspended ends there; its packet passes."""
    ended: list[int] = []

    def callback(packet: Packet) -> None:
        try:
            suspend(packet)
        except GreenletExit:
            ended.append(packet.id)
            raise

    for number in range(ROUNDS):
        with nfq.open() as handle:
            create_queue(handle, callback)
            udp.send(*SENT)
            cycle: list[object] = [greenlet(handle.process)]
            if collected:
                cycle.append(cycle)
            assert isinstance(cycle[0], greenlet)
            cycle[0].switch(1)
            del cycle
            gc.collect()
            assert len(ended) == number + 1
            assert udp.arrivals() == SENT[:1]
        assert udp.arrivals() == SENT[1:]


def test_thrown_into_a_callback(udp: UdpPair) -> None:
    """An exception thrown into a suspended callback leaves its dispatch; its packet has passed."""
    for _ in range(ROUNDS):
        with nfq.open() as handle:
            create_queue(handle, suspend_and_accept)
            udp.send(*SENT)
            processing = greenlet(handle.process)
            processing.switch(1)
            with pytest.raises(KeyError):
                processing.throw(KeyError)
            assert processing.dead
            assert udp.arrivals() == SENT[:1]
        assert udp.arrivals() == SENT[1:]
