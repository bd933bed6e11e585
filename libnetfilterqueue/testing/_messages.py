# SPDX-License-Identifier: GPL-2.0-or-later
"""The messages of nfnetlink_queue, built as the kernel builds them and read as it reads them.

Netlink's own numbers are in host byte order, those in the attributes of a queue big-endian.
"""

import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple, Self

from libnetfilterqueue._netlink import attribute
from libnetfilterqueue.constants import Hook, Verdict
from libnetfilterqueue.tuples import Vlan

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3
NLM_F_REQUEST, NLM_F_ACK = 1, 4
MSG_PACKET, MSG_VERDICT, MSG_CONFIG, MSG_VERDICT_BATCH = 0x300, 0x301, 0x302, 0x303

NFQA_PACKET_HDR = 1
NFQA_VERDICT_HDR = 2
NFQA_MARK = 3
NFQA_TIMESTAMP = 4
NFQA_IFINDEX_INDEV = 5
NFQA_IFINDEX_OUTDEV = 6
NFQA_IFINDEX_PHYSINDEV = 7
NFQA_IFINDEX_PHYSOUTDEV = 8
NFQA_HWADDR = 9
NFQA_PAYLOAD = 10
NFQA_CT = 11
NFQA_CT_INFO = 12
NFQA_CAP_LEN = 13
NFQA_SKB_INFO = 14
NFQA_EXP = 15
NFQA_UID = 16
NFQA_GID = 17
NFQA_SECCTX = 18
NFQA_VLAN = 19
NFQA_L2HDR = 20
NFQA_PRIORITY = 21
NFQA_CGROUP_CLASSID = 22

NFQA_VLAN_PROTO, NFQA_VLAN_TCI = 1, 2
CTA_STATUS, CTA_TIMEOUT, CTA_MARK, CTA_ID, CTA_ZONE, CTA_LABELS = 3, 7, 8, 12, 18, 22

NFQA_CFG_CMD = 1
NFQA_CFG_PARAMS = 2
NFQA_CFG_QUEUE_MAXLEN = 3
NFQA_CFG_MASK = 4
NFQA_CFG_FLAGS = 5

NLA_TYPE_MASK = 0x3FFF
NLA_F_NESTED = 0x8000
HEADER = 16  # struct nlmsghdr
QUEUE_HEADER = HEADER + 4  # and struct nfgenmsg


def message(kind: int, body: bytes = b"", sequence: int = 0, flags: int = 0) -> bytes:
    """A netlink message, not padded."""
    return struct.pack("=IHHII", HEADER + len(body), kind, flags, sequence, 0) + body


def error_message(error: int, request: bytes) -> bytes:
    """The kernel's answer to a request; error 0 says that it was executed.

    A refused request comes back as far as `request` has it: whole, or its header.
    """
    (sequence,) = struct.unpack_from("=I", request, 8)
    echo = request if error else request[:HEADER]
    return message(NLMSG_ERROR, struct.pack("=i", -error) + echo, sequence)


def is_error(message: bytes) -> bool:
    """Whether it is an answer to a request."""
    return struct.unpack_from("=H", message, 4) == (NLMSG_ERROR,)


def read_error(message: bytes) -> int:
    """What it says: an errno, or 0."""
    (error,) = struct.unpack_from("=i", message, HEADER)
    return -int(error)


def packet_message(
    packet_id: int = 1,
    payload: bytes | None = b"payload",
    *attributes: bytes,
    number: int = 1,
    family: int = socket.AF_INET,
    hw_protocol: int = 0x0800,
    hook: int = Hook.NF_INET_LOCAL_OUT,
) -> bytes:
    """A queued packet; like the kernel's, its payload comes last and is not padded."""
    header = struct.pack("!IHB", packet_id, hw_protocol, hook)
    body = struct.pack("!BBH", family, 0, number) + attribute(NFQA_PACKET_HDR, header)
    last = b""
    if payload is not None:
        last = struct.pack("=HH", 4 + len(payload), NFQA_PAYLOAD) + payload
    return message(MSG_PACKET, body + b"".join(attributes) + last)


def read_attributes(data: bytes) -> dict[int, bytes]:
    """The values of netlink attributes one behind the other, in their order."""
    attributes: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        length, kind = struct.unpack_from("=HH", data, position)
        attributes[kind & NLA_TYPE_MASK] = data[position + 4 : position + length]
        position += length + -length % 4
    return attributes


def attributes_of(message: bytes) -> dict[int, bytes]:
    """The attributes of a message of a queue."""
    return read_attributes(message[QUEUE_HEADER:])


def aligned(data: bytes) -> bytes:
    """A message padded, so that another one can follow in the buffer."""
    return data + bytes(-len(data) % 4)


def messages_in(data: bytes) -> Iterator[bytes]:
    """The messages of a datagram; what is none ends it, as in the kernel."""
    position = 0
    while len(data) - position >= HEADER:
        (length,) = struct.unpack_from("=I", data, position)
        if not HEADER <= length <= len(data) - position:
            return
        yield data[position : position + length]
        position += length + -length % 4


class Header(NamedTuple):
    """What a message to the kernel says before its attributes."""

    kind: int
    flags: int
    number: int
    """The queue's."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Reads it from a message, as messages_in yields them."""
        kind, flags = struct.unpack_from("=HH", data, 4)
        return cls(kind, flags, int.from_bytes(data[18:QUEUE_HEADER], "big"))


# Why a packet gets a verdict that no program has decided on: ext/wire/verdict.h has the numbers,
# which handles send where the kernel does not look.
RAISED, SILENT, HANDLED, UNBOUND, TOO_LARGE, NO_MEMORY = range(1, 7)
DEFAULTS = {
    RAISED: "its callback raised an exception",
    SILENT: "nobody gave it a verdict, and nobody has it any more",
    HANDLED: "its handler ended without a verdict",
    UNBOUND: "its queue ended before it had a verdict",
    TOO_LARGE: "its verdict was too large to be sent",
    NO_MEMORY: "there was no memory for it or for its verdict",
}


def read_reason(data: bytes) -> int:
    """Why a verdict was sent: 0, or one of the reasons above."""
    (reason,) = struct.unpack_from("=I", data, 12)
    return int(reason)


def read_u32(attributes: dict[int, bytes], kind: int) -> int | None:
    """An attribute's number, None if it is not there."""
    value = attributes.get(kind)
    return None if value is None else int.from_bytes(value[:4], "big")


def read_packet_id(attributes: dict[int, bytes]) -> int:
    """A queued packet's id."""
    return int.from_bytes(attributes[NFQA_PACKET_HDR][:4], "big")


def verdict_message(number: int, packet_id: int, verdict: int) -> bytes:
    """A verdict on one packet."""
    header = attribute(NFQA_VERDICT_HDR, struct.pack("!II", verdict, packet_id))
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, number) + header
    return message(MSG_VERDICT, body, packet_id, NLM_F_REQUEST)


def with_packet_id(request: bytes, packet_id: int) -> bytes:
    """The same verdict with another id; its first attribute is the verdict's."""
    place = QUEUE_HEADER + 8
    return request[:place] + struct.pack("!I", packet_id) + request[place + 4 :]


def read_rcvbuf(message: bytes) -> int:
    """The size of a receive buffer, which handles of the fake kernel tell in an NLMSG_NOOP."""
    return int.from_bytes(message[HEADER : HEADER + 4], sys.byteorder)


def read_vlan(data: bytes | None) -> Vlan | None:
    """NFQA_VLAN."""
    if data is None:
        return None
    parts = {kind: int.from_bytes(part[:2], "big") for kind, part in read_attributes(data).items()}
    return Vlan(parts.get(NFQA_VLAN_PROTO), parts.get(NFQA_VLAN_TCI))


class SentVerdict(NamedTuple):
    """A verdict as a program sent it to the kernel. What the program left out is ``None``.

    >>> packet.accept(mark=7)
    >>> sent.verdicts[0].mark
    7
    """

    number: int
    """The queue's number."""
    packet_id: int
    """The packet's id; of a batch verdict, the last one."""
    verdict: int
    """A ``Verdict``, or what ``NF_QUEUE_NR()`` returns."""
    batch: bool
    """Whether it was a batch verdict."""
    mark: int | None = None
    """The packet's new mark."""
    payload: bytes | None = None
    """The packet's new content."""
    priority: int | None = None
    """The packet's new priority."""
    vlan: Vlan | None = None
    """The packet's new VLAN tag."""
    l2_header: bytes | None = None
    """The packet's new link-layer header."""
    ct_mark: int | None = None
    """The connection's new mark."""
    ct_labels: bytes | None = None
    """The connection's new labels, 16 bytes."""
    default: str | None = None
    """Why it is the queue's default verdict; ``None`` if a program has decided."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Reads it from a message.

        Raises ``ValueError`` if it has no verdict that the kernel takes.
        """
        header = Header.read(data)
        attributes = attributes_of(data)
        value = attributes.get(NFQA_VERDICT_HDR, b"")
        if len(value) < 8:
            raise ValueError("no verdict")
        verdict, packet_id = struct.unpack_from("!II", value)
        if verdict & 0xFF in (Verdict.NF_STOLEN, *range(Verdict.NF_STOP + 1, 0x100)):
            raise ValueError(f"no verdict of user space: {verdict:#x}")
        conntrack = read_attributes(attributes.get(NFQA_CT, b""))
        return cls(
            header.number,
            packet_id,
            Verdict(verdict) if verdict in set(Verdict) else verdict,
            header.kind == MSG_VERDICT_BATCH,
            read_u32(attributes, NFQA_MARK),
            attributes.get(NFQA_PAYLOAD),
            read_u32(attributes, NFQA_PRIORITY),
            read_vlan(attributes.get(NFQA_VLAN)),
            attributes.get(NFQA_L2HDR),
            read_u32(conntrack, CTA_MARK),
            conntrack.get(CTA_LABELS),
            DEFAULTS.get(read_reason(data)),
        )
