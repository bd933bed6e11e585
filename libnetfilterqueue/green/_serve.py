# SPDX-License-Identifier: GPL-2.0-or-later
"""A greenlet for each packet of a stream."""

from libnetfilterqueue._arguments import check_count, check_type, is_coroutine_function
from libnetfilterqueue.green._packets import PacketStream
from libnetfilterqueue.green._workers import Handler, Workers


def serve(stream: PacketStream, handler: Handler, *, concurrency: int = 100) -> None:
    """Runs ``handler(packet)`` in a greenlet for each packet.

    Args:
        stream: The stream whose packets it handles.
        handler: A function, which is called with each packet, and may block cooperatively.
        concurrency: The largest number of handlers that run at a time, at least 1.

    Greenlets are used again, but each handler has a copy of the context (contextvars) in which
    ``serve()`` was called. A handler that leaves something in its greenlet (a ``gevent.Timeout``,
    values of a ``gevent.local``) leaves it to no other handler. If a handler ends without a
    verdict, its packet gets the default at once. Exceptions of handlers go to the hub's
    ``handle_error``.

    Returns when the stream is closed, or when the stream is stopped and the handlers have ended.
    When the stream is closed or the greenlet of ``serve()`` is killed, the running handlers are
    killed once, and no other handler begins. ``serve()`` waits for them, and packets without a
    verdict get the default.

    Raises ``TypeError`` if ``handler`` can't be called or is a coroutine function, ``ValueError``
    for a concurrency below 1, ``RuntimeError`` in a thread other than the one that has opened the
    stream, and after fork.

    >>> def handler(packet):
    ...     gevent.sleep(0.01)  # look something up
    ...     packet.accept()
    >>> serving = gevent.spawn(green.serve, stream, handler)
    >>> stream.stop()  # say, at a signal
    >>> serving.join()
    """
    check_type(isinstance(stream, PacketStream), "serve(): stream must be a PacketStream", stream)
    check_type(callable(handler), "serve(): handler must be callable", handler)
    check_type(
        not is_coroutine_function(handler),
        "serve(): handler must not be a coroutine function",
        handler,
    )
    Workers(stream, handler, check_count("serve(): concurrency", concurrency)).run()
