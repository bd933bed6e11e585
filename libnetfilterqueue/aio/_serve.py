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
    """Runs ``handler(packet)`` as a task for each packet.

    Args:
        stream: The stream whose packets it handles.
        handler: A coroutine function, which is called with each packet.
        concurrency: The largest number of handlers that run at a time, at least 1.

    It is a coroutine: await it. It returns when the stream is closed, or when the stream is stopped
    and the handlers have ended. If a handler ends without a verdict, its packet gets the default at
    once. Exceptions of handlers go to the loop's exception handler, with the keys ``packet`` and
    ``task``. ``KeyboardInterrupt`` and ``SystemExit`` leave the loop too. When the stream is closed
    or ``serve()`` is cancelled, the running handlers are cancelled once, and no other handler
    begins. ``serve()`` waits for them, and packets without a verdict get the default.

    Where the loop has no task factory, a handler begins in the queue's callback, as an eager task
    does, also on Python 3.11.

    The call raises ``TypeError`` unless ``handler`` is a coroutine function, a partial of one, or
    an object whose ``__call__`` is one. It raises ``ValueError`` for a concurrency below 1.
    Awaiting it raises ``RuntimeError`` in a loop other than the stream's, and after fork.

    >>> async def handler(packet):
    ...     await asyncio.sleep(0.01)  # look something up
    ...     packet.accept()
    >>> serving = asyncio.create_task(aio.serve(stream, handler))
    >>> stream.stop()  # say, at a signal
    >>> await serving
    """
    check_type(isinstance(stream, PacketStream), "serve(): stream must be a PacketStream", stream)
    check_type(
        is_coroutine_function(handler), "serve(): handler must be a coroutine function", handler
    )
    return Handlers(stream, handler, check_count("serve(): concurrency", concurrency)).serve()
