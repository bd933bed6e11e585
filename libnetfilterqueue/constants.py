# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's constants as enums. Each member is exported under its own name too.

The extension takes the values from the kernel's headers.
"""

import enum

from libnetfilterqueue import _ext


class Verdict(enum.IntEnum):
    """What becomes of a packet (``linux/netfilter.h``).

    >>> nfq.Verdict(4), nfq.NF_ACCEPT + 0
    (<Verdict.NF_REPEAT: 4>, 1)
    """

    NF_DROP = _ext.NF_DROP
    """It is thrown away."""
    NF_ACCEPT = _ext.NF_ACCEPT
    """It goes on to the next rule table or hook."""
    NF_STOLEN = _ext.NF_STOLEN
    """The network stack forgets it. Kernels refuse it from user space. It acts as ``NF_DROP``."""
    NF_QUEUE = _ext.NF_QUEUE
    """It goes to queue 0; with ``NF_QUEUE_NR(number)``, to another queue."""
    NF_REPEAT = _ext.NF_REPEAT
    """The chain that queued it starts again."""
    NF_STOP = _ext.NF_STOP
    """It leaves the hook. The other rule tables of the hook do not see it."""


class _Open(enum.IntEnum):
    """Newer kernels may send a number that has no name here: its digits are its name."""

    @classmethod
    def _missing_(cls, value: object) -> "_Open | None":
        if not isinstance(value, int) or not 0 <= value < 1 << 32:
            return None
        member = int.__new__(cls, value)
        member._name_ = str(value)
        member._value_ = value
        return member


class CopyMode(_Open):
    """How much of a packet a queue delivers (``linux/netfilter/nfnetlink_queue.h``).

    >>> queue.set_mode(nfq.CopyMode.NFQNL_COPY_META, 0)
    """

    NFQNL_COPY_NONE = _ext.NFQNL_COPY_NONE
    """Nothing is queued: packets are dropped."""
    NFQNL_COPY_META = _ext.NFQNL_COPY_META
    """The attributes without the payload."""
    NFQNL_COPY_PACKET = _ext.NFQNL_COPY_PACKET
    """The attributes and the payload, up to the range."""


class QueueFlag(enum.IntFlag):
    """A queue's flags (``NFQA_CFG_FLAGS`` in ``linux/netfilter/nfnetlink_queue.h``).

    >>> flags = nfq.NFQA_CFG_F_FAIL_OPEN | nfq.NFQA_CFG_F_UID_GID
    >>> queue.set_flags(flags, flags)
    """

    NFQA_CFG_F_FAIL_OPEN = _ext.NFQA_CFG_F_FAIL_OPEN
    """When the queue or the receive buffer is full, packets pass instead of being dropped."""
    NFQA_CFG_F_CONNTRACK = _ext.NFQA_CFG_F_CONNTRACK
    """Deliver the conntrack entry."""
    NFQA_CFG_F_GSO = _ext.NFQA_CFG_F_GSO
    """Deliver segmentation-offload packets whole, with their checksums not filled in."""
    NFQA_CFG_F_UID_GID = _ext.NFQA_CFG_F_UID_GID
    """Deliver the sending socket's user and group id."""
    NFQA_CFG_F_SECCTX = _ext.NFQA_CFG_F_SECCTX
    """Deliver the security context."""


class SkbInfo(enum.IntFlag):
    """What the kernel says of a packet's state (``NFQA_SKB_INFO``).

    >>> bool(packet.skb_info & nfq.NFQA_SKB_GSO)
    False
    """

    NFQA_SKB_CSUMNOTREADY = _ext.NFQA_SKB_CSUMNOTREADY
    """The checksums are filled in later. They look wrong, but are not."""
    NFQA_SKB_GSO = _ext.NFQA_SKB_GSO
    """The packet is segmented later: it is larger than the device's MTU."""
    NFQA_SKB_CSUM_NOTVERIFIED = _ext.NFQA_SKB_CSUM_NOTVERIFIED
    """Nobody has checked the checksums yet."""


class Hook(_Open):
    """Where in the network stack a packet was queued (``linux/netfilter.h``).

    >>> packet.hook is nfq.NF_INET_LOCAL_OUT
    True
    """

    NF_INET_PRE_ROUTING = _ext.NF_INET_PRE_ROUTING
    """It has been received and is not routed yet: the chain PREROUTING."""
    NF_INET_LOCAL_IN = _ext.NF_INET_LOCAL_IN
    """It is for this host: INPUT."""
    NF_INET_FORWARD = _ext.NF_INET_FORWARD
    """It passes through this host: FORWARD."""
    NF_INET_LOCAL_OUT = _ext.NF_INET_LOCAL_OUT
    """This host sends it: OUTPUT."""
    NF_INET_POST_ROUTING = _ext.NF_INET_POST_ROUTING
    """It is about to be sent: POSTROUTING."""


NF_DROP = Verdict.NF_DROP
NF_ACCEPT = Verdict.NF_ACCEPT
NF_STOLEN = Verdict.NF_STOLEN
NF_QUEUE = Verdict.NF_QUEUE
NF_REPEAT = Verdict.NF_REPEAT
NF_STOP = Verdict.NF_STOP

NFQNL_COPY_NONE = CopyMode.NFQNL_COPY_NONE
NFQNL_COPY_META = CopyMode.NFQNL_COPY_META
NFQNL_COPY_PACKET = CopyMode.NFQNL_COPY_PACKET

NFQA_CFG_F_FAIL_OPEN = QueueFlag.NFQA_CFG_F_FAIL_OPEN
NFQA_CFG_F_CONNTRACK = QueueFlag.NFQA_CFG_F_CONNTRACK
NFQA_CFG_F_GSO = QueueFlag.NFQA_CFG_F_GSO
NFQA_CFG_F_UID_GID = QueueFlag.NFQA_CFG_F_UID_GID
NFQA_CFG_F_SECCTX = QueueFlag.NFQA_CFG_F_SECCTX

NFQA_SKB_CSUMNOTREADY = SkbInfo.NFQA_SKB_CSUMNOTREADY
NFQA_SKB_GSO = SkbInfo.NFQA_SKB_GSO
NFQA_SKB_CSUM_NOTVERIFIED = SkbInfo.NFQA_SKB_CSUM_NOTVERIFIED

NF_INET_PRE_ROUTING = Hook.NF_INET_PRE_ROUTING
NF_INET_LOCAL_IN = Hook.NF_INET_LOCAL_IN
NF_INET_FORWARD = Hook.NF_INET_FORWARD
NF_INET_LOCAL_OUT = Hook.NF_INET_LOCAL_OUT
NF_INET_POST_ROUTING = Hook.NF_INET_POST_ROUTING
