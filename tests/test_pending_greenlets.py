# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that wait for the verdicts of greenlets."""

import random

import gevent
import gevent.queue
import gevent.socket
from netns import TIMEOUT, UdpPair, background
from queues import Handle, Packet

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
CHUNK = 100  # datagrams that any receive buffer holds


def serve_in_greenlets(handle: Handle, udp: UdpPair, sent: list[bytes]) -> list[bytes]:
    """One greenlet receives, four answer in no order, this one sends; returns what arrived."""
    waiting: gevent.queue.Queue[Packet | None] = gevent.queue.Queue()
    handle.create_queue(1, waiting.put, mode=COPY)

    def receive() -> None:
        while handle.stats().packets < len(sent):
            gevent.socket.wait_read(handle.fileno(), timeout=TIMEOUT)
            handle.process()

    def answer(number: int) -> None:
        chance = random.Random(number)
        kept: list[Packet] = []
        for packet in iter(waiting.get, None):
            kept.append(packet)
            chance.shuffle(kept)
            if len(kept) > 5:
                kept.pop().accept()
                gevent.sleep(0)
        for packet in kept:
            packet.accept()

    receiving = gevent.spawn(receive)
    answering = [gevent.spawn(answer, number) for number in range(4)]
    for first in range(0, len(sent), 20):
        udp.send(*sent[first : first + 20])
        gevent.sleep(0)
    receiving.get(timeout=TIMEOUT)
    for _ in answering:
        waiting.put(None)
    for greenlet in answering:
        greenlet.get(timeout=TIMEOUT)
    return udp.arrivals()


def test_answered_by_greenlets(handle: Handle, udp: UdpPair) -> None:
    """Greenlets answer what another one has received, in no order, while more is sent."""
    sent = [b"%d" % number for number in range(CHUNK)]

    def serve() -> list[bytes]:
        try:
            return serve_in_greenlets(handle, udp, sent)
        finally:
            gevent.get_hub().destroy()

    arrived = background(serve).result(TIMEOUT)
    assert arrived != sent
    assert sorted(arrived) == sorted(sent)
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0
