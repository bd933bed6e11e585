# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in asyncio, and so in uvloop and in whatever runs an asyncio loop.

attach() has the running loop feed a handle, open_queue() is a queue as an asynchronous stream of
packets, serve() runs a task for each. The loop is the caller's: it is neither created, nor run,
nor stopped here.
"""

from libnetfilterqueue.aio._attachment import Attachment, attach
from libnetfilterqueue.aio._packets import PacketStream, open_queue
from libnetfilterqueue.aio._serve import serve

__all__ = ["Attachment", "PacketStream", "attach", "open_queue", "serve"]
