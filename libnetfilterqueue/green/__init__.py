# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in gevent, with or without monkey-patching.

``attach()`` makes the thread's hub feed a handle. ``open_queue()`` makes a queue a stream of
packets. ``serve()`` runs a greenlet for each packet. Everything else shares the hub: it is neither
started nor blocked here.
"""

try:
    from libnetfilterqueue.green._attachment import Attachment, attach
    from libnetfilterqueue.green._packets import PacketStream, open_queue
    from libnetfilterqueue.green._serve import serve
except ModuleNotFoundError as _error:
    if _error.name != "gevent":
        raise
    raise ImportError(
        "libnetfilterqueue.green needs gevent: pip install gevent", name="gevent"
    ) from _error

__all__ = ["Attachment", "PacketStream", "attach", "open_queue", "serve"]
