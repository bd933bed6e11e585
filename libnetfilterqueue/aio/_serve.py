# SPDX-License-Identifier: GPL-2.0-or-later
"""A task for each packet of a stream."""

from collections.abc import Coroutine
from typing import Any

from libnetfilterqueue._arguments import check_count, check_type, is_coroutine_function
from libnetfilterqueue.aio._handlers import Handler, Handlers
from libnetfilterqueue.aio._packets import PacketStream


def serve(
    stream: PacketStream, handler: Handler, *, concurrency: int = 100
) -> Coroutine[Any, Any, None]:
    """Runs `handler(packet)` as a task for each packet, at most `concurrency` at a time.

    A coroutine, to be awaited; it returns when the stream is closed, or stopped and its handlers
    have ended. A packet whose handler ends without a verdict gets the default at once. What a
    handler raises goes to the loop's exception handler, with the keys `packet` and `task`;
    KeyboardInterrupt and SystemExit leave the loop besides. When the stream is closed, and when
    serve() is cancelled, the handlers that run are cancelled, once, and no other begins; it waits
    for them, and packets without a verdict get the default.

    From Python 3.12 on, where the loop has no task factory, a handler begins in the queue's
    callback, as an eager task does.

    Raises TypeError at the call if `handler` is no coroutine function, nor a partial of one, nor an
    object whose `__call__` is one; ValueError for a concurrency below 1; RuntimeError in another
    loop than the stream's.
    """
    check_type(isinstance(stream, PacketStream), "serve(): stream must be a PacketStream", stream)
    check_type(
        is_coroutine_function(handler), "serve(): handler must be a coroutine function", handler
    )
    return Handlers(stream, handler, check_count("serve(): concurrency", concurrency)).serve()
