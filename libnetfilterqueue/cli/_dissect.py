# SPDX-License-Identifier: GPL-2.0-or-later
"""What a packet's headers say, read by dpkt.

dpkt 1.9.8 takes 4 to 6 us for a packet and 70 ms to import; pypacker 5.4 takes 5 to 8 us and
100 ms; scapy 2.8, which knows many more protocols, 90 to 150 us and 270 ms. A queue waits for us.
"""

# dpkt's metaclass makes the fields of its headers, where pyright does not see them.
# pyright: reportAttributeAccessIssue=false

import ipaddress
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import dpkt  # type: ignore[import-untyped]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

VERSIONS: dict[int, tuple[Any, Callable[[bytes], IPAddress]]] = {
    dpkt.ethernet.ETH_TYPE_IP: (dpkt.ip.IP, ipaddress.IPv4Address),
    dpkt.ethernet.ETH_TYPE_IP6: (dpkt.ip6.IP6, ipaddress.IPv6Address),
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


def dissect(hw_protocol: int, payload: bytes) -> Dissected:
    """Reads a packet's headers; nothing of what is malformed or, by its EtherType, no IP."""
    if hw_protocol not in VERSIONS:
        return Dissected()
    header, address = VERSIONS[hw_protocol]
    try:
        ip = header(payload)
    except Exception:  # noqa: BLE001 (dpkt raises whatever it stumbles over)
        return Dissected()
    return Dissected(
        saddr=address(ip.src), daddr=address(ip.dst), protocol=protocol_of(ip), **beyond(ip)
    )


def protocol_of(ip: Any) -> int:
    """What IP carries. dpkt takes ESP over IPv6 for an extension header that nothing follows."""
    return int(getattr(ip, "p", socket.IPPROTO_ESP))


def beyond(ip: Any) -> dict[str, Any]:
    """The fields of what IP carries."""
    if not hasattr(ip, "p"):
        return {"data_length": ip.all_extension_headers[-1].length}
    return {"data_length": len(ip.data)} if is_later_fragment(ip) else upper_layer(ip.data)


def is_later_fragment(ip: Any) -> bool:
    """Whether the packet begins in the middle of another: there are no ports."""
    if isinstance(ip, dpkt.ip.IP):
        return bool(ip.offset)
    return any(
        isinstance(header, dpkt.ip6.IP6FragmentHeader) and header.frag_off
        for header in ip.all_extension_headers
    )


def upper_layer(data: Any) -> dict[str, Any]:
    """The fields of what an unfragmented packet, or the first fragment, carries."""
    length = len(data)
    if isinstance(data, dpkt.tcp.TCP):
        flags = "".join(name for bit, name in enumerate(TCP_FLAGS) if data.flags & 1 << bit)
        return {**ports(data), "flags": flags, "data_length": len(data.data)}
    if isinstance(data, dpkt.udp.UDP | dpkt.sctp.SCTP):
        return {**ports(data), "data_length": length - data.__hdr_len__}
    if isinstance(data, dpkt.icmp.ICMP | dpkt.icmp6.ICMP6):
        return {"icmp_type": data.type, "icmp_code": data.code, "data_length": length}
    return {"data_length": length}


def ports(data: Any) -> dict[str, int]:
    """Where it comes from and goes to on either machine."""
    return {"sport": data.sport, "dport": data.dport}
