# SPDX-License-Identifier: GPL-2.0-or-later
"""A greenlet for each packet of a stream."""

from libnetfilterqueue._arguments import check_count, check_type, is_coroutine_function
from libnetfilterqueue.green._packets import PacketStream
from libnetfilterqueue.green._workers import Handler, Workers


def serve(stream: PacketStream, handler: Handler, *, concurrency: int = 100) -> None:
    """Runs `handler(packet)` in a greenlet for each packet, at most `concurrency` at a time.

    Greenlets are used again, but each handler has a copy of the context (contextvars) that serve()
    was called in, and one that leaves something in its greenlet (a gevent.Timeout, values of a
    gevent.local) leaves it to no other. A packet whose handler ends without a verdict gets the
    default at once. What a handler raises goes to the hub's handle_error.

    Returns when the stream is closed, or stopped and its handlers have ended. When it is closed,
    and when serve's greenlet is killed, the handlers that run are killed, once, and no other
    begins; it waits for them, and packets without a verdict get the default.

    Raises TypeError if `handler` can't be called or is a coroutine function, ValueError for a
    concurrency below 1, RuntimeError in another thread than the one that has opened the stream.
    """
    check_type(isinstance(stream, PacketStream), "serve(): stream must be a PacketStream", stream)
    check_type(callable(handler), "serve(): handler must be callable", handler)
    check_type(
        not is_coroutine_function(handler),
        "serve(): handler must not be a coroutine function",
        handler,
    )
    Workers(stream, handler, check_count("serve(): concurrency", concurrency)).run()
