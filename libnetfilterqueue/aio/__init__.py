# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in asyncio, in uvloop, and in everything else that runs an asyncio loop.

``attach()`` makes the running loop feed a handle. ``open_queue()`` makes a queue an asynchronous
stream of packets. ``serve()`` runs a task for each packet. The loop belongs to the caller: it is
not created, run or stopped here.
"""

from libnetfilterqueue.aio._attachment import Attachment, attach
from libnetfilterqueue.aio._packets import PacketStream, open_queue
from libnetfilterqueue.aio._serve import serve

__all__ = ["Attachment", "PacketStream", "attach", "open_queue", "serve"]
