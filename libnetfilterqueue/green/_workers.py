# SPDX-License-Identifier: GPL-2.0-or-later
"""The greenlets that serve() runs handlers in."""

import contextvars
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.pool

import libnetfilterqueue as nfq
from libnetfilterqueue._backlog import settle
from libnetfilterqueue.green._packets import PacketStream
from libnetfilterqueue.green._worker import Worker

Packet = nfq.NetfilterQueueData
Handler = Callable[[Packet], object]
IDLE = 2  # workers that may wait for packets


class Workers:
    """Greenlets that handle packets, one after the other: a new one costs as much as ten packets.

    One of them waits for the next packet; when it has one and no other waits, another one is
    started. One that would wait beside IDLE others ends, and so does one in which a handler has
    left something: see Worker.
    """

    def __init__(self, stream: PacketStream, handler: Handler, most: int) -> None:
        self._stream = stream
        self._handler = handler
        self._most = most
        self._context = contextvars.copy_context()
        self._waiting: set[int] = set()  # for a packet: ids, as references to workers are counted
        self._group: Any = gevent.pool.Group()  # whose types know no subclasses of Greenlet
        self._ended = gevent.event.Event()
        self._killed = False

    def run(self) -> None:
        """Until the stream ends and its handlers have; they are killed with this greenlet."""
        self._stream._check_process("serve()")
        self._stream._when_closed.add(self._kill)
        try:
            self._start()
            self._ended.wait()
            self._group.join()
        except BaseException:
            self._kill()
            raise
        finally:
            self._join()
            self._stream._when_closed.discard(self._kill)

    def _kill(self) -> None:
        """Kills those that run, once; no other is started."""
        if not self._killed:
            self._killed = True
            self._ended.set()
            self._group.kill(block=False)

    def _join(self) -> None:
        """Waits until all have ended, however often this greenlet is killed meanwhile."""
        killed: BaseException | None = None
        while self._group.greenlets:
            try:
                self._group.join()
            except BaseException as error:  # noqa: BLE001 (a Timeout may be anything)
                killed = error
                self._kill()
        if killed is not None:
            raise killed

    def _start(self) -> None:
        worker = Worker(self._work)
        self._waiting.add(id(worker))
        self._group.start(worker)
        worker.link(self._leave)  # once the group has left it

    def _leave(self, worker: Worker) -> None:
        """It has ended, or somebody has killed it."""
        self._waiting.discard(id(worker))
        if not self._waiting:
            self._start_another()

    def _start_another(self) -> None:
        """Unless as many run as may, or the stream has ended."""
        if len(self._group) < self._most and not self._ended.is_set():
            self._start()

    def _work(self) -> None:
        worker = gevent.getcurrent()
        assert isinstance(worker, Worker)
        worker.settle()
        for packet in self._stream:
            self._waiting.discard(id(worker))
            if not self._waiting:
                self._start_another()
            worker.begin()
            self._handle(packet)
            del packet  # a packet that is waited for must not keep this one
            if worker.has_switched:
                self._stream._look()
            if not worker.is_clean() or (len(self._waiting) >= IDLE and not self._stream._ready()):
                self._stream._look()
                return
            self._waiting.add(id(worker))
        self._ended.set()

    def _handle(self, packet: Packet) -> None:
        try:
            self._context.copy().run(self._handler, packet)
        except BaseException as error:
            if self._killed and isinstance(error, gevent.GreenletExit):
                raise
            if not (self._stream.closed and isinstance(error, nfq.ClosedError)):
                gevent.get_hub().handle_error(gevent.getcurrent(), *sys.exc_info())
        finally:
            if packet.verdict is None:
                settle(packet)
