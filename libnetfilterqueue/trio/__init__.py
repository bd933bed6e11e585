# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in trio.

``attach()`` feeds a handle from a nursery. ``open_queue()`` makes a queue an asynchronous stream of
packets. ``serve()`` runs a task for each packet. No task runs but those that you start: a stream is
read by the tasks that ask it for packets.
"""

try:
    from libnetfilterqueue.trio._attachment import Attachment, attach
    from libnetfilterqueue.trio._packets import PacketStream, open_queue
    from libnetfilterqueue.trio._serve import serve
except ModuleNotFoundError as _error:
    if _error.name != "trio":
        raise
    raise ImportError(
        "libnetfilterqueue.trio needs trio: pip install trio", name="trio"
    ) from _error

__all__ = ["Attachment", "PacketStream", "attach", "open_queue", "serve"]
