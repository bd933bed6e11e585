# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's NFQUEUE: receive packets from the kernel and give each its verdict.

open_queue() is a queue as a stream of packets. In a loop of your own, open() a handle and call
create_queue() with a callback. Then receive on the handle's descriptor and pass the bytes to
handle_packet(), or call process(). See README.md.
"""

from libnetfilterqueue._ext import (
    NF_QUEUE_NR,
    ClosedError,
    MalformedMessageError,
    NetfilterQueueData,
    NetfilterQueueHandle,
    NetfilterQueueQueueHandle,
    VerdictError,
    __version__,
    open,
    queue_status,
    update_checksums,
)
from libnetfilterqueue.constants import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_QUEUE,
    NF_REPEAT,
    NF_STOLEN,
    NF_STOP,
    NFQA_CFG_F_CONNTRACK,
    NFQA_CFG_F_FAIL_OPEN,
    NFQA_CFG_F_GSO,
    NFQA_CFG_F_SECCTX,
    NFQA_CFG_F_UID_GID,
    NFQA_SKB_CSUM_NOTVERIFIED,
    NFQA_SKB_CSUMNOTREADY,
    NFQA_SKB_GSO,
    NFQNL_COPY_META,
    NFQNL_COPY_NONE,
    NFQNL_COPY_PACKET,
    CopyMode,
    Hook,
    QueueFlag,
    SkbInfo,
    Verdict,
)

# For annotations; the long names are the original binding's.
Handle = NetfilterQueueHandle
Queue = NetfilterQueueQueueHandle
Packet = NetfilterQueueData

TYPE_CHECKING = False  # typing's own is in what is not to be imported
if TYPE_CHECKING:
    from libnetfilterqueue._packets import PacketStream, open_queue
    from libnetfilterqueue.tuples import Conntrack, HandleStats, QueueStatus, Vlan

__all__ = [
    "NFQA_CFG_F_CONNTRACK",
    "NFQA_CFG_F_FAIL_OPEN",
    "NFQA_CFG_F_GSO",
    "NFQA_CFG_F_SECCTX",
    "NFQA_CFG_F_UID_GID",
    "NFQA_SKB_CSUMNOTREADY",
    "NFQA_SKB_CSUM_NOTVERIFIED",
    "NFQA_SKB_GSO",
    "NFQNL_COPY_META",
    "NFQNL_COPY_NONE",
    "NFQNL_COPY_PACKET",
    "NF_ACCEPT",
    "NF_DROP",
    "NF_INET_FORWARD",
    "NF_INET_LOCAL_IN",
    "NF_INET_LOCAL_OUT",
    "NF_INET_POST_ROUTING",
    "NF_INET_PRE_ROUTING",
    "NF_QUEUE",
    "NF_QUEUE_NR",
    "NF_REPEAT",
    "NF_STOLEN",
    "NF_STOP",
    "ClosedError",
    "Conntrack",
    "CopyMode",
    "Handle",
    "HandleStats",
    "Hook",
    "MalformedMessageError",
    "NetfilterQueueData",
    "NetfilterQueueHandle",
    "NetfilterQueueQueueHandle",
    "Packet",
    "PacketStream",
    "Queue",
    "QueueFlag",
    "QueueStatus",
    "SkbInfo",
    "Verdict",
    "VerdictError",
    "Vlan",
    "__version__",
    "open",
    "open_queue",
    "queue_status",
    "update_checksums",
]

if not TYPE_CHECKING:  # checkers would take any name for one that is there

    def __getattr__(name):
        """What somebody asks for: all that these need takes longer to import than the rest."""
        if name not in __all__:  # of which all else is there
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in ("PacketStream", "open_queue"):
            from libnetfilterqueue import _packets as module  # noqa: PLC0415
        else:
            from libnetfilterqueue import tuples as module  # noqa: PLC0415
        return getattr(module, name)

    def __dir__():
        return sorted({*globals(), *__all__})
