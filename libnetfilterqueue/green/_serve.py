# SPDX-License-Identifier: GPL-2.0-or-later
"""A greenlet for each packet of a stream."""

from collections.abc import Callable
from functools import partial

import gevent.pool

import libnetfilterqueue as nfq
from libnetfilterqueue._stream import settle
from libnetfilterqueue.green._packets import PacketStream

Packet = nfq.NetfilterQueueData


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
