# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes that a test gives a packet: names, types, ranges, and errors that help."""

import difflib
import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex, TypedDict, cast

from libnetfilterqueue._arguments import check_type

HW_ADDR_MAX = 8
LABELS_SIZE = 16
ATTRIBUTE_MAX = 0xFFFF - 4  # bytes that a netlink attribute has room for
DEVICES = {"indev", "outdev", "physindev", "physoutdev"}


class ConntrackAttributes(TypedDict, total=False):
    """A conntrack entry, with the names of ``Conntrack``.

    Only given fields are sent, and the mark.

    >>> sent = kernel.enqueue(b"data", conntrack={"mark": 5})
    """

    id: int
    """32 bits."""
    status: int
    """``IPS_*`` bits of ``linux/netfilter/nf_conntrack_common.h``."""
    mark: int
    """32 bits; 0 unless given."""
    labels: bytes
    """16 bytes."""
    zone: int
    """16 bits."""
    timeout: int
    """Seconds, 32 bits."""


class Attributes(TypedDict, total=False):
    """The attributes of a packet, with the names of ``NetfilterQueueData``.

    Numbers are in host byte order.

    >>> sent = kernel.enqueue(b"data", mark=5, indev=2)
    """

    mark: int
    """32 bits."""
    priority: int
    """32 bits."""
    family: int
    """``AF_INET``, ``AF_INET6`` or ``AF_BRIDGE``.

    Unless given, it is ``AF_BRIDGE`` with ``vlan`` or ``l2_header``; else the payload decides.
    """
    hook: int
    """``NF_INET_LOCAL_OUT`` unless given."""
    hw_protocol: int
    """The EtherType. Unless given, the payload decides."""
    hw_addr: bytes
    """The sender's hardware address, up to 8 bytes."""
    timestamp: float
    """Seconds. They are delivered in microseconds."""
    indev: int
    """The index of an interface, like the next three. 1 is the loopback of each namespace."""
    outdev: int
    """The device that will send it."""
    physindev: int
    """The bridge port that received it."""
    physoutdev: int
    """The bridge port that will send it."""
    uid: int
    """Delivered with ``NFQA_CFG_F_UID_GID``."""
    gid: int
    """Delivered with ``NFQA_CFG_F_UID_GID``."""
    secctx: bytes
    """Delivered with ``NFQA_CFG_F_SECCTX``."""
    cgroup_classid: int
    """32 bits."""
    skb_info: int
    """``NFQA_SKB_*`` bits; ``CSUMNOTREADY`` and ``GSO`` are delivered with ``NFQA_CFG_F_GSO``."""
    vlan: tuple[int, int]
    """EtherType and control information of a tag; delivered on ``AF_BRIDGE``."""
    l2_header: bytes
    """Delivered on ``AF_BRIDGE``."""
    conntrack: ConntrackAttributes
    """The connection that it belongs to; delivered with ``NFQA_CFG_F_CONNTRACK``."""
    ct_info: int
    """``IP_CT_*`` of ``linux/netfilter/nf_conntrack_common.h``; ``IP_CT_NEW`` unless given."""
    original_length: int
    """Its length before it was captured, if that is longer than the payload."""


BITS = {
    "mark": 32,
    "priority": 32,
    "family": 8,
    "hook": 8,
    "hw_protocol": 16,
    "indev": 32,
    "outdev": 32,
    "physindev": 32,
    "physoutdev": 32,
    "uid": 32,
    "gid": 32,
    "cgroup_classid": 32,
    "skb_info": 32,
    "ct_info": 32,
    "original_length": 32,
}
SIZES = {"hw_addr": HW_ADDR_MAX, "secctx": ATTRIBUTE_MAX, "l2_header": ATTRIBUTE_MAX}
CONNTRACK_BITS = {"id": 32, "status": 32, "mark": 32, "zone": 16, "timeout": 32}

# What else enqueue() can be told, and what its users have been heard to call things: the words of
# rules, of scapy, of other bindings.
OTHER_ARGUMENTS = ["number", "bypass", "match_mark", "rules", "allow_unbound"]
SYNONYMS = {
    "queue": "number",
    "queue_num": "number",
    "queue_number": "number",
    "num": "number",
    "fwmark": "mark",
    "ctmark": "conntrack",
    "iif": "indev",
    "iifname": "indev",
    "oif": "outdev",
    "oifname": "outdev",
    "iface": "indev",
    "interface": "indev",
    "device": "indev",
    "length": "original_length",
    "caplen": "original_length",
    "wirelen": "original_length",
    "time": "timestamp",
    "proto": "hw_protocol",
    "protocol": "hw_protocol",
    "ethertype": "hw_protocol",
    "mac": "hw_addr",
    "src_mac": "hw_addr",
    "user": "uid",
    "group": "gid",
    "ct": "conntrack",
    "data": "payload",
    "packet": "payload",
}


def check_bits(what: str, value: SupportsIndex, bits: int, *, hint: str = "") -> int:
    """The value as an int of so many bits, or TypeError, whose rule has the hint, or ValueError."""
    check_type(isinstance(value, SupportsIndex), f"{what} must be an int{hint}", value)
    number = operator.index(value)
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{what} must be from 0 to {(1 << bits) - 1:#x}, not {number}")
    return number


def check_attributes(given: Mapping[str, Any]) -> Attributes:
    """What a packet comes with, without what is None. Raises TypeError and ValueError."""
    named = {name: value for name, value in given.items() if value is not None}
    known = Attributes.__optional_keys__
    check_names("enqueue(): no attribute of a packet", named, known, OTHER_ARGUMENTS)
    return cast(Attributes, {name: _check(name, value) for name, value in named.items()})


def check_names(
    what: str, given: Iterable[str], known: Iterable[str], others: Iterable[str] = ()
) -> None:
    """Raises TypeError for the first name that is not known, with the one that is meant."""
    choices = [*sorted(known), *others]
    for name in given:
        if name not in known:
            meant = _meant(name, choices)
            hint = f": do you mean {meant!r}?" if meant else f": they are {', '.join(choices)}"
            raise TypeError(f"{what} is named {name!r}{hint}")


def _meant(name: str, choices: list[str]) -> str | None:
    """The one of the names that is most like another one."""
    synonym = SYNONYMS.get(name.lower())
    if synonym in choices:
        return synonym
    within = [choice for choice in choices if choice in name.lower()]
    close = difflib.get_close_matches(name.lower(), choices, 1, 0.7)
    return next(iter(close + sorted(within, key=len, reverse=True)), None)


def _check(name: str, value: Any) -> object:
    """One attribute, as it is sent."""
    what = f"enqueue(): {name}"
    if name in BITS:
        return check_bits(what, value, BITS[name], hint=_device_hint(value) * (name in DEVICES))
    if name in SIZES:
        return _check_bytes(what, value, SIZES[name])
    if name == "timestamp":
        return _check_time(what, value)
    return _check_vlan(what, value) if name == "vlan" else _check_conntrack(what, value)


def _device_hint(value: object) -> str:
    """How to come by a device's index, for somebody who has its name."""
    return ", the index of an interface" + (
        f" (socket.if_nametoindex({value!r}) returns {_index_of(value)})"
        if isinstance(value, str)
        else ""
    )


def _index_of(name: str) -> str:
    import socket  # noqa: PLC0415 (for an error message)

    try:
        return str(socket.if_nametoindex(name))
    except OSError:
        return "it; 1 is each namespace's loopback"


def _check_bytes(what: str, value: Any, most: int) -> bytes:
    check_type(isinstance(value, bytes | bytearray | memoryview), f"{what} must be bytes", value)
    if len(value) > most:
        raise ValueError(f"{what} must have at most {most} bytes, not {len(value)}")
    return bytes(value)


def _check_time(what: str, value: Any) -> float:
    check_type(hasattr(value, "__float__"), f"{what} must be a number of seconds", value)
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{what} must be a number of seconds, not {seconds}")
    if seconds < 0:
        raise ValueError(f"{what} must not be negative, not {seconds}")
    return seconds


def _check_vlan(what: str, value: Any) -> tuple[int, int]:
    pair = isinstance(value, tuple | list) and len(value) == 2
    check_type(pair, f"{what} must be a pair (proto, tci)", value)
    proto, tci = value
    return check_bits(f"{what}: proto", proto, 16), check_bits(f"{what}: tci", tci, 16)


def _check_conntrack(what: str, value: Any) -> ConntrackAttributes:
    check_type(isinstance(value, Mapping), f"{what} must be a dict", value)
    entry = {name: part for name, part in value.items() if part is not None}
    check_names(f"{what}: nothing of an entry", entry, ConntrackAttributes.__optional_keys__)
    for name, part in entry.items():
        if name == "labels":
            entry[name] = _check_bytes(f"{what}: labels", part, ATTRIBUTE_MAX)
            if len(part) != LABELS_SIZE:
                raise ValueError(f"{what}: labels must have {LABELS_SIZE} bytes, not {len(part)}")
        else:
            entry[name] = check_bits(f"{what}: {name}", part, CONNTRACK_BITS[name])
    return cast(ConntrackAttributes, entry)
