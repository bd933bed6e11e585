# SPDX-License-Identifier: GPL-2.0-or-later
"""What a packet's headers say, read by dpkt.

dpkt 1.9.8 takes 4 to 6 us for a packet and 70 ms to import; pypacker 5.4 takes 5 to 8 us and
100 ms; scapy 2.8, which knows many more protocols, 90 to 150 us and 270 ms. A queue waits for us.
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
)
from typing import Any, NamedTuple

import dpkt  # type: ignore[import-untyped]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

EXTENSION_HEADERS = {
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
    protocol: int | None = None
    """IPPROTO_*, behind IPv6's extension headers."""
    sport: int | None = None
    dport: int | None = None
    flags: str | None = None
    """TCP's, as tcpdump writes them: "S." for SYN and ACK."""
    icmp_type: int | None = None
    icmp_code: int | None = None
    data_length: int | None = None
    """How many bytes of data TCP, UDP or SCTP carry, or else IP."""


class Content(NamedTuple):
    """What IP carries."""

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
    """Behind the options."""
    if header.hl < 5:
        raise dpkt.UnpackError
    end = header.len or None  # 0 where the kernel has put segments together
    return Content(header.p, payload[header.hl * 4 : end], header.offset == 0)


def ipv6_content(header: Any, _payload: bytes) -> Content:
    """Behind the extension headers, as far as they are there."""
    data = header.data[: header.plen or None]  # 0 in jumbograms
    protocol, at = header.nxt, 0
    while protocol in EXTENSION_HEADERS and len(data) >= at + 8:
        extension = protocol
        protocol, length, offset = struct.unpack_from("!BBH", data, at)
        at += extension_length(extension, length)
        if extension == IPPROTO_FRAGMENT and offset >> 3:
            return Content(protocol, data[at:], is_beginning=False)
    return Content(protocol, data[at:], is_beginning=True)


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
        protocol=content.protocol,
        **upper_layer(content),
    )


def upper_layer(content: Content) -> dict[str, Any]:
    """The fields of what IP carries, if its header is there; its data's length otherwise."""
    protocol, data, is_beginning = content
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
    """All behind the header is data."""
    return {**ports(dpkt.udp.UDP(data)), "data_length": len(data) - 8}


def sctp(data: bytes) -> dict[str, Any]:
    """The chunks are data."""
    return {**ports(read_header(dpkt.sctp.SCTP, data)), "data_length": len(data) - 12}


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
    IPPROTO_SCTP: sctp,
    IPPROTO_ICMP: icmp,
    IPPROTO_ICMPV6: icmp,
}
