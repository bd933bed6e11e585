# SPDX-License-Identifier: GPL-2.0-or-later
"""A plain reader of netlink messages: what handle_packet must make of bytes, whatever they are."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from played_kernel import (
    MSG_PACKET,
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    NFQA_CAP_LEN,
    NFQA_CGROUP_CLASSID,
    NFQA_CT,
    NFQA_CT_INFO,
    NFQA_HWADDR,
    NFQA_IFINDEX_INDEV,
    NFQA_L2HDR,
    NFQA_MARK,
    NFQA_PACKET_HDR,
    NFQA_PAYLOAD,
    NFQA_PRIORITY,
    NFQA_SECCTX,
    NFQA_SKB_INFO,
    NFQA_TIMESTAMP,
    NFQA_UID,
    NFQA_VERDICT_HDR,
    NFQA_VLAN,
    NLA_TYPE_MASK,
    NLMSG_ERROR,
)

MESSAGE_MAX = 131072
ERRNO_MAX = 4095
NLM_F_CAPPED = 0x100
TEARDOWN = 0  # the sequence number of a queue's last batch verdict; others have their packet's id

# How short a value may be; what is not here may be empty.
MINIMUM = {
    NFQA_PACKET_HDR: 7,
    NFQA_MARK: 4,
    NFQA_TIMESTAMP: 16,
    **{NFQA_IFINDEX_INDEV + number: 4 for number in range(4)},
    NFQA_HWADDR: 12,
    NFQA_CT_INFO: 4,
    NFQA_CAP_LEN: 4,
    NFQA_SKB_INFO: 4,
    NFQA_UID: 4,
    NFQA_UID + 1: 4,
    NFQA_PRIORITY: 4,
    NFQA_CGROUP_CLASSID: 4,
}
CT_FIELDS = {"id": (12, 4), "status": (3, 4), "mark": (8, 4), "labels": (22, 16)}
CT_FIELDS |= {"zone": (18, 2), "timeout": (7, 4)}
VLAN_FIELDS = {"proto": (1, 2), "tci": (2, 2)}


class MalformedError(ValueError):
    """Bytes that are no message."""


@dataclass
class Read:
    """A message that is for somebody: a packet, or the refusal of a verdict."""

    number: int | None = None
    packet_id: int = 0
    cut: bool = False
    refusal: bool = False
    values: dict[str, object] = field(default_factory=dict)


def require(condition: bool) -> None:
    if not condition:
        raise MalformedError


def split(data: bytes, length: int) -> Iterator[tuple[int, int, bytes]]:
    """The attributes of a message of that length: type, length of the value, what is there of it.

    Of a message that is cut short there is less than its length.
    """
    position = 0
    while position < length:
        require(length - position >= 4)
        if len(data) < position + 4:
            return
        size, kind = struct.unpack_from("=HH", data, position)
        require(4 <= size <= length - position)
        yield kind & NLA_TYPE_MASK, size - 4, data[position + 4 : position + size]
        position += size + -size % 4


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def nested(value: bytes, fields: dict[str, tuple[int, int]]) -> dict[str, object]:
    """Numbers of a nested attribute, and labels; None where they are absent."""
    found: dict[int, bytes] = {}
    minimum = dict(fields.values())
    for kind, size, there in split(value, len(value)):
        require(size >= minimum.get(kind, 0))
        found[kind] = there
    result: dict[str, object] = {}
    for name, (kind, size) in fields.items():
        if kind not in found:
            result[name] = None
        elif name == "labels":
            result[name] = found[kind][:size]
        else:
            result[name] = number(found[kind][:size])
    return result


def check_value(kind: int, value: bytes) -> None:
    """What has lengths inside is whole."""
    if kind == NFQA_HWADDR:
        require(number(value[:2]) <= 8)
    elif kind == NFQA_CT:
        nested(value, CT_FIELDS)
    elif kind == NFQA_VLAN:
        nested(value, VLAN_FIELDS)


def read_packet(data: bytes, length: int) -> Read:
    """A packet message of that length, of which there may be less."""
    there = data[:length]
    require(len(there) >= 20)
    found: dict[int, bytes] = {}
    declared = 0
    for kind, size, value in split(there[20:], length - 20):
        require(size >= MINIMUM.get(kind, 0))
        if kind == NFQA_PAYLOAD:
            declared = size
        elif len(value) < size:
            continue  # a part of an attribute is none
        found[kind] = value
    for kind, value in found.items():
        check_value(kind, value)
    require(NFQA_PACKET_HDR in found)
    packet_id, protocol, hook = struct.unpack_from("!IHB", found[NFQA_PACKET_HDR])
    result = Read(number(there[18:20]), packet_id, cut=length > len(data))
    result.values = {
        "id": packet_id,
        "hw_protocol": protocol,
        "hook": hook,
        "family": there[16],
        **values_of(found, declared, cut=result.cut),
    }
    return result


def values_of(found: dict[int, bytes], declared: int, *, cut: bool) -> dict[str, object]:
    """The attributes of a packet as they have to be, by their names here."""

    def u32(kind: int, absent: int | None = 0) -> int | None:
        return number(found[kind][:4]) if kind in found else absent

    payload = found.get(NFQA_PAYLOAD, b"")
    original = u32(NFQA_CAP_LEN, declared)
    assert original is not None
    hardware = found.get(NFQA_HWADDR, bytes(12))
    stamp = found.get(NFQA_TIMESTAMP)
    context = found.get(NFQA_SECCTX)
    return {
        "payload": payload,
        "original_length": original,
        "truncated": cut or len(payload) < original,
        "mark": u32(NFQA_MARK),
        "indev": u32(NFQA_IFINDEX_INDEV),
        "outdev": u32(NFQA_IFINDEX_INDEV + 1),
        "physindev": u32(NFQA_IFINDEX_INDEV + 2),
        "physoutdev": u32(NFQA_IFINDEX_INDEV + 3),
        "hw_addr": hardware[4 : 4 + number(hardware[:2])],
        "timestamp": None if stamp is None else number(stamp[:8]) + number(stamp[8:16]) * 1e-6,
        "skb_info": u32(NFQA_SKB_INFO),
        "uid": u32(NFQA_UID, None),
        "gid": u32(NFQA_UID + 1, None),
        "secctx": context[:-1] if context and context[-1] == 0 else context,
        "l2_header": found.get(NFQA_L2HDR),
        "priority": u32(NFQA_PRIORITY),
        "cgroup_classid": u32(NFQA_CGROUP_CLASSID),
        "ct_info": u32(NFQA_CT_INFO, None),
        "vlan": nested(found[NFQA_VLAN], VLAN_FIELDS) if NFQA_VLAN in found else None,
        "conntrack": nested(found[NFQA_CT], CT_FIELDS) | {"raw": found[NFQA_CT]}
        if NFQA_CT in found
        else None,
    }


def read_answer(data: bytes) -> Read:
    """An acknowledgement, or a refusal of what was sent."""
    require(len(data) >= 36)
    (flags,) = struct.unpack_from("=H", data, 6)
    error, length, kind, _, sequence = struct.unpack_from("=iIHHI", data, 16)
    require(-ERRNO_MAX <= error <= 0)
    if error == 0 or kind not in (MSG_VERDICT, MSG_VERDICT_BATCH):
        return Read()
    echo = b"" if flags & NLM_F_CAPPED else data[20:][:length]
    named = (
        len(echo) >= 32
        and struct.unpack_from("=H", echo, 22)[0] & NLA_TYPE_MASK == NFQA_VERDICT_HDR
    )
    packet_id = number(echo[28:32]) if named else sequence
    teardown = kind == MSG_VERDICT_BATCH and sequence == TEARDOWN
    if teardown and not (named and packet_id == TEARDOWN):
        return Read()
    return Read(number(echo[18:20]) if named else None, packet_id, refusal=True)


def read_buffer(data: bytes) -> tuple[list[Read], bool]:
    """Packets and refusals in a buffer, and whether something malformed stands behind them."""
    read: list[Read] = []
    try:
        while data or not read:
            require(len(data) >= 16)
            length, kind = struct.unpack_from("=IH", data)
            require(16 <= length <= MESSAGE_MAX)
            if kind == MSG_PACKET:
                read.append(read_packet(data, length))
            elif kind == NLMSG_ERROR:
                read.append(read_answer(data[:length]))
            else:
                require(length <= len(data))
                read.append(Read())
            data = data[length + -length % 4 :]
    except MalformedError:
        return read, True
    return read, False
