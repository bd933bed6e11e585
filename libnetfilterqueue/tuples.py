# SPDX-License-Identifier: GPL-2.0-or-later
"""The named tuples that the extension returns. Their numbers are in host byte order."""

from typing import NamedTuple

from libnetfilterqueue.constants import CopyMode


class HandleStats(NamedTuple):
    """A handle's counters since open.

    >>> handle.stats().defaulted
    0
    """

    packets: int
    """Packets that were dispatched to callbacks."""
    verdicts: int
    """Verdicts that were executed, defaults included."""
    sends: int
    """System calls that carried verdicts."""
    receives: int
    """System calls that read messages."""
    overruns: int
    """Times that the kernel reported lost messages (``ENOBUFS``)."""
    truncated: int
    """Packets that were dispatched cut short."""
    orphaned: int
    """Packets for a queue that is gone or, on an adopted socket, not created yet."""
    verdict_errors: int
    """Verdicts that the kernel refused, as it reports later."""
    defaulted: int
    """Packets that got their queue's default verdict."""


class QueueStatus(NamedTuple):
    """What the kernel's own table says of a queue since it was bound.

    >>> sum(row.queue_dropped + row.user_dropped for row in nfq.queue_status())
    0
    """

    queue: int
    """The queue's number."""
    portid: int
    """The netlink port id of the socket that has bound it."""
    waiting: int
    """Packets that wait for their verdict."""
    copy_mode: CopyMode
    """How much of a packet it delivers."""
    copy_range: int
    """How many bytes of a packet it delivers at most."""
    queue_dropped: int
    """Packets dropped because as many waited as maxlen allows."""
    user_dropped: int
    """Packets dropped because the socket's receive buffer was full."""
    id_sequence: int
    """The id of the last packet."""


class Vlan(NamedTuple):
    """A VLAN tag (``NFQA_VLAN``).

    >>> if packet.vlan is not None and packet.vlan.tci is not None:
    ...     print("VLAN", packet.vlan.tci & 0xFFF)
    """

    proto: int | None
    """The tag's EtherType: 0x8100 for 802.1Q, 0x88a8 for 802.1ad."""
    tci: int | None
    """Its control information, 16 bits: priority, drop eligibility, number of the VLAN."""


class Conntrack(NamedTuple):
    """An entry of the connection tracking table (``NFQA_CT``).

    What the kernel left out is ``None``.

    >>> if packet.conntrack is not None:
    ...     print("mark", packet.conntrack.mark)
    """

    id: int | None
    """The entry's number (``CTA_ID``)."""
    status: int | None
    """``IPS_*`` bits of ``linux/netfilter/nf_conntrack_common.h`` (``CTA_STATUS``)."""
    mark: int | None
    """The connection's mark (``CTA_MARK``)."""
    labels: bytes | None
    """The connection's labels, 16 bytes (``CTA_LABELS``); kernels leave them out if none is set."""
    zone: int | None
    """The conntrack zone (``CTA_ZONE``); kernels leave out 0."""
    timeout: int | None
    """How many seconds the entry has left (``CTA_TIMEOUT``)."""
    raw: bytes
    """The whole attribute, nested netlink attributes, for a parser of your own."""
