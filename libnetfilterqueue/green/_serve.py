# SPDX-License-Identifier: GPL-2.0-or-later
"""A greenlet for each packet of a stream."""

import sys
from collections.abc import Callable

import gevent
import gevent.event
import gevent.pool
from greenlet import greenlet

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count, check_type
from libnetfilterqueue._stream import settle
from libnetfilterqueue.green._packets import PacketStream

Packet = nfq.NetfilterQueueData
IDLE = 2  # workers that may wait for packets


class _Workers:
    """Greenlets that handle packets, one after the other: a new one costs as much as ten packets.

    One of them waits for the next packet; when it has one and no other waits, another one is
    started. One that would wait beside IDLE others ends: a packet wakes all that wait.
    """

    def __init__(
        self, stream: PacketStream, handler: Callable[[Packet], object], most: int
    ) -> None:
        self._stream = stream
        self._handler = handler
        self._most = most
        self._waiting: set[greenlet] = set()
        self._group = gevent.pool.Group()
        self._ended = gevent.event.Event()

    def run(self) -> None:
        """Until the stream ends, or this greenlet is killed; then the handlers are."""
        self._stream._when_closed.add(self._ended.set)
        self._start()
        try:
            self._ended.wait()
        finally:
            self._stream._when_closed.discard(self._ended.set)
            self._ended.set()
            self._group.kill()

    def _start(self) -> None:
        worker = self._group.spawn(self._work)
        self._waiting.add(worker)
        worker.link(self._leave)

    def _leave(self, worker: greenlet) -> None:
        """It has ended, or somebody has killed it."""
        self._waiting.discard(worker)
        if not self._ended.is_set():
            self._see_that_one_waits()

    def _see_that_one_waits(self) -> None:
        if not self._waiting and len(self._group) < self._most:
            self._start()

    def _work(self) -> None:
        worker = gevent.getcurrent()
        for packet in self._stream:
            self._waiting.discard(worker)
            self._see_that_one_waits()
            self._handle(packet)
            del packet  # a packet that is waited for must not keep this one
            if len(self._waiting) >= IDLE and not self._stream._ready():
                return
            self._waiting.add(worker)
        self._ended.set()

    def _handle(self, packet: Packet) -> None:
        try:
            self._handler(packet)
        except BaseException:
            if self._ended.is_set():
                raise  # serve kills its handlers
            gevent.get_hub().handle_error(gevent.getcurrent(), *sys.exc_info())
        finally:
            settle(packet)


def serve(
    stream: PacketStream, handler: Callable[[Packet], object], *, concurrency: int = 100
) -> None:
    """Runs `handler(packet)` in a greenlet for each packet, at most `concurrency` at a time.

    A packet whose handler ends without a verdict gets the default at once. What a handler raises
    goes to the hub's handle_error. Returns when the stream is closed; then, and when its greenlet
    is killed, the handlers that run are killed, and their packets have the default verdict. Raises
    ValueError for a concurrency below 1.
    """
    check_type(isinstance(stream, PacketStream), "serve(): stream must be a PacketStream", stream)
    check_type(callable(handler), "serve(): handler must be callable", handler)
    most = check_count("serve(): concurrency", concurrency)
    _Workers(stream, handler, most).run()
