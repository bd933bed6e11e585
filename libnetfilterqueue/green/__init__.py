# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in gevent, with or without monkey-patching.

attach() has the thread's hub feed a handle, open_queue() is a queue as a stream of packets, serve()
runs a greenlet for each. The hub is shared with all else: it is neither started nor blocked here.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Self

import libnetfilterqueue as nfq
from libnetfilterqueue._stream import BATCH, Feed, Stream, settle

try:
    import gevent
    import gevent.event
    import gevent.monkey
    import gevent.pool
except ImportError as _error:
    raise ImportError(
        "libnetfilterqueue.green needs gevent: pip install gevent", name=_error.name
    ) from _error

__all__ = ["Attachment", "PacketStream", "attach", "open_queue", "serve"]

Packet = nfq.NetfilterQueueData

READ = 1  # the event of a watcher
_get_ident = gevent.monkey.get_original("_thread", "get_ident")


class Attachment(Feed):
    """A handle that gevent's hub feeds; made by attach().

    A context manager that detaches it. To be used in the hub's thread.
    """

    def __init__(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> None:
        self._hub = gevent.get_hub()
        self._feeding = False
        super().__init__(handle, fed)

    def _watch(self) -> None:
        self._watcher = self._hub.loop.io(self._descriptor, READ)
        if not self._feeding:  # else it is started when that is over
            self._watcher.start(self._on_readable)

    def _unwatch(self) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _on_readable(self) -> None:
        """In the hub, where nothing may block."""
        self._watcher.stop()
        self._feeding = True
        gevent.spawn_raw(self._run)  # a Greenlet costs ten times as much

    def _run(self) -> None:
        """In a greenlet of its own, which callbacks may block."""
        try:
            self._process()
        finally:
            self._feeding = False
            if not self._closed and not self._paused:
                self._watcher.start(self._on_readable)

    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        if _get_ident() != self._hub.thread_ident:
            self._hub.loop.run_callback_threadsafe(function)
        elif at_once:
            function()
        else:
            self._hub.loop.run_callback(function)

    def _report(self, error: BaseException) -> None:
        self._hub.handle_error(self, type(error), error, error.__traceback__)


def attach(handle: nfq.NetfilterQueueHandle) -> Attachment:
    """Has the thread's hub feed the handle from now on.

    The callbacks of its queues are called in a greenlet, at most 64 a turn, and may block
    cooperatively: meanwhile the handle's other packets wait. What they raise goes to the hub's
    handle_error, and the feed goes on. Verdicts given in one turn are sent together at its end.
    Closing the handle, in any thread, detaches it.

    Raises RuntimeError if the handle is attached already, ValueError if it is closed.
    """
    return Attachment(handle, lambda: None)


class PacketStream(Stream[Attachment]):
    """The packets of a queue: `with open_queue(1) as stream`, which binds and closes it.

    `for packet in stream` yields packets until the stream is closed; waiting blocks the greenlet.
    Several greenlets may read it: each packet goes to one of them. To be used in the hub's thread.

    The arguments are those of libnetfilterqueue.aio.open_queue.
    """

    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> Attachment:
        self._arrived = gevent.event.Event()
        return Attachment(handle, fed)

    def _wake(self) -> None:
        if self._handle is not None:
            self._arrived.set()

    def _wait(self) -> bool:
        """Waits for a packet, and lets others have a turn; False if the stream is closed."""
        if self._packets:
            gevent.sleep(0)
        while not self._packets:
            if self._closed:
                return False
            self.handle  # noqa: B018 (raises if it is not open)
            self._arrived.clear()
            self._arrived.wait()
        self._taken = 0
        return True

    def get(self) -> Packet:
        """The next packet. Raises ValueError if the stream is closed, also while it waits."""
        if not (self._ready() or self._wait()):
            raise ValueError("get(): the stream is closed")
        return self._take()

    def get_batch(self, max: int = BATCH) -> list[Packet]:
        """As many packets as there are, at least one and at most `max`; else as get()."""
        if max < 1:
            raise ValueError(f"get_batch(): max must be at least 1, not {max}")
        if not (self._ready() or self._wait()):
            raise ValueError("get_batch(): the stream is closed")
        return self._take_batch(max)

    def __iter__(self) -> Iterator[Packet]:
        while self._ready() or self._wait():
            yield self._take()

    def __enter__(self) -> Self:
        return self._open()

    def __exit__(self, *exception: object) -> None:
        self.close()


open_queue = PacketStream


def serve(
    stream: PacketStream, handler: Callable[[Packet], object], *, concurrency: int = 100
) -> None:
    """Runs `handler(packet)` as a greenlet for each packet, at most `concurrency` at a time.

    A packet whose handler ends without a verdict gets the default at once. What a handler raises
    goes to the hub's handle_error. Returns when the stream is closed; then, and when its greenlet
    is killed, the handlers that run are killed, and their packets have the default verdict. Raises
    ValueError for a concurrency below 1.
    """
    if concurrency < 1:
        raise ValueError(f"serve(): concurrency must be at least 1, not {concurrency}")
    pool = gevent.pool.Pool(concurrency)
    try:
        for packet in stream:
            pool.spawn(handler, packet).link(partial(settle, packet))
            del packet  # a packet that is waited for must not keep this one
    finally:
        pool.kill()
