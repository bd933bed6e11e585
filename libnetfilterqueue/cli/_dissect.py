# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the headers of packets by dpkt.

dpkt 1.9.8 takes 4 to 6 us per packet and 70 ms to import. pypacker 5.4 takes 5 to 8 us and 100 ms.
scapy 2.8 takes 90 to 150 us and 270 ms, and knows many more protocols. A queue waits for us.
"""

# dpkt's metaclass makes the fields of its headers, where pyright does not see them.
# pyright: reportAttributeAccessIssue=false

import contextlib
import ipaddress
import struct
from collections.abc import Callable
from socket import (
    IPPROTO_AH,
    IPPROTO_DSTOPTS,
    IPPROTO_FRAGMENT,
    IPPROTO_HOPOPTS,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_ROUTING,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
)
from typing import Any, NamedTuple

import dpkt  # type: ignore[import-untyped]

from libnetfilterqueue.cli._protocols import NUMBERS

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# What stands between IP's header and what it carries. ESP and IPComp do not: what follows can't be
# read.
IPV4_EXTENSIONS = {IPPROTO_AH}
IPV6_EXTENSIONS = {
    IPPROTO_AH,
    IPPROTO_DSTOPTS,
    IPPROTO_FRAGMENT,
    IPPROTO_HOPOPTS,
    IPPROTO_ROUTING,
}
TCP_FLAGS = "FSRP.UEW"  # as tcpdump writes them, the lowest bit first


class Dissected(NamedTuple):
    """The fields of a packet. None is what it has not, or what can't be read."""

    saddr: IPAddress | None = None
    daddr: IPAddress | None = None
    extensions: tuple[int, ...] = ()
    """IPPROTO_* of the headers in front of that: AH and IPv6's extension headers."""
    protocol: int | None = None
    """IPPROTO_* of what is carried."""
    sport: int | None = None
    dport: int | None = None
    flags: str | None = None
    """TCP's, as tcpdump writes them: "S." for SYN and ACK."""
    icmp_type: int | None = None
    icmp_code: int | None = None
    data_length: int | None = None
    """How many bytes of data TCP, UDP, UDP-Lite, SCTP or DCCP carry, or else IP."""


class Content(NamedTuple):
    """What IP carries."""

    extensions: tuple[int, ...]
    protocol: int
    data: bytes
    is_beginning: bool
    """Not if the packet is a later fragment, which has no ports."""


def read_header(kind: Any, data: bytes) -> Any:
    """A header of dpkt's, with what follows as its `data`.

    By itself dpkt would read on into the content, and a mistake there would be one of the whole.
    """
    if len(data) < kind.__hdr_len__:
        raise dpkt.NeedData
    header = kind.__new__(kind)  # what reads on is __init__
    dpkt.Packet.unpack(header, data)
    return header


def ipv4_content(header: Any, payload: bytes) -> Content:
    """Behind the options, and AH."""
    if header.hl < 5:
        raise dpkt.UnpackError
    end = header.len or None  # 0 where the kernel has put segments together
    data = payload[header.hl * 4 : end]
    if header.offset:
        return Content((), header.p, data, is_beginning=False)
    return behind_extensions(IPV4_EXTENSIONS, header.p, data)


def ipv6_content(header: Any, _payload: bytes) -> Content:
    """Behind the extension headers."""
    data = header.data[: header.plen or None]  # 0 in jumbograms
    return behind_extensions(IPV6_EXTENSIONS, header.nxt, data)


def behind_extensions(known: set[int], protocol: int, data: bytes) -> Content:
    """What follows on the extension headers, as far as those are there."""
    extensions: list[int] = []
    at, is_beginning = 0, True
    while is_beginning and protocol in known and len(data) >= at + 8:
        extensions.append(protocol)
        protocol, length, offset = struct.unpack_from("!BBH", data, at)
        at += extension_length(extensions[-1], length)
        is_beginning = extensions[-1] != IPPROTO_FRAGMENT or offset >> 3 == 0
    return Content(tuple(extensions), protocol, data[at:], is_beginning)


def extension_length(header: int, length: int) -> int:
    """How many bytes an extension header has, by its second byte."""
    if header == IPPROTO_FRAGMENT:
        return 8
    return (length + 2) * 4 if header == IPPROTO_AH else (length + 1) * 8


class Version(NamedTuple):
    """How a version of IP is read."""

    header: Any
    content: Callable[[Any, bytes], Content]
    address: Callable[[bytes], IPAddress]


VERSIONS = {
    dpkt.ethernet.ETH_TYPE_IP: Version(dpkt.ip.IP, ipv4_content, ipaddress.IPv4Address),
    dpkt.ethernet.ETH_TYPE_IP6: Version(dpkt.ip6.IP6, ipv6_content, ipaddress.IPv6Address),
}


def dissect(hw_protocol: int, payload: bytes) -> Dissected:
    """Reads a packet's headers; nothing if the IP header is cut, or the EtherType another."""
    if hw_protocol not in VERSIONS:
        return Dissected()
    version = VERSIONS[hw_protocol]
    try:
        header = read_header(version.header, payload)
        content = version.content(header, payload)
    except dpkt.UnpackError:
        return Dissected()
    return Dissected(
        saddr=version.address(header.src),
        daddr=version.address(header.dst),
        extensions=content.extensions,
        protocol=content.protocol,
        **upper_layer(content),
    )


def upper_layer(content: Content) -> dict[str, Any]:
    """The fields of what IP carries, if its header is there; its data's length otherwise."""
    _, protocol, data, is_beginning = content
    with contextlib.suppress(dpkt.UnpackError):
        if is_beginning and protocol in HEADERS:
            return HEADERS[protocol](data)
    return {"data_length": len(data)}


def tcp(data: bytes) -> dict[str, Any]:
    """The header's length varies."""
    segment = dpkt.tcp.TCP(data)
    flags = "".join(name for bit, name in enumerate(TCP_FLAGS) if segment.flags & 1 << bit)
    return {**ports(segment), "flags": flags, "data_length": len(segment.data)}


def udp(data: bytes) -> dict[str, Any]:
    """All behind the header is data; UDP-Lite has a checksum's coverage for a length."""
    return {**ports(dpkt.udp.UDP(data)), "data_length": len(data) - 8}


def sctp(data: bytes) -> dict[str, Any]:
    """The chunks are data."""
    return {**ports(read_header(dpkt.sctp.SCTP, data)), "data_length": len(data) - 12}


def dccp(data: bytes) -> dict[str, Any]:
    """The fifth byte says where data begins, in words."""
    if len(data) < 12 or not 12 <= data[4] * 4 <= len(data):
        raise dpkt.NeedData
    sport, dport = struct.unpack_from("!HH", data)
    return {"sport": sport, "dport": dport, "data_length": len(data) - data[4] * 4}


def icmp(data: bytes) -> dict[str, Any]:
    """Of both versions. The packet that an error quotes is data."""
    header = read_header(dpkt.icmp.ICMP, data)
    return {"icmp_type": header.type, "icmp_code": header.code, "data_length": len(data)}


def ports(header: Any) -> dict[str, int]:
    """Where it comes from and goes to on either machine."""
    return {"sport": header.sport, "dport": header.dport}


HEADERS: dict[int, Callable[[bytes], dict[str, Any]]] = {
    IPPROTO_TCP: tcp,
    IPPROTO_UDP: udp,
    IPPROTO_UDPLITE: udp,
    NUMBERS["dccp"]: dccp,
    IPPROTO_SCTP: sctp,
    IPPROTO_ICMP: icmp,
    IPPROTO_ICMPV6: icmp,
}
