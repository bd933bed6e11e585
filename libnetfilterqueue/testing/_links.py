# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the IP packets in the frames of a capture, behind the headers of all links that carry IP.

The link types are those of the registry at tcpdump.org, LINKTYPE_*. Each reader takes the bytes
from its header on, and yields the IP packets in them, with whatever follows them in the frame. It
reads of a header only what tells where that ends. A frame whose header is cut short has no packets.
"""

import struct
from collections.abc import Callable, Iterator

Packets = Iterator[bytes]
Reader = Callable[[bytes], Packets]

ETHERTYPE_MIN = 0x600  # below are lengths
PPP_ADDRESS, CISCO_ADDRESSES, UNNUMBERED = 0xFF, (0x0F, 0x8F), 0x03
INET6_FAMILIES = (10, 23, 24, 26, 28, 30)  # Linux, Windows, NetBSD, Solaris, FreeBSD, macOS


def u16(data: bytes, at: int = 0) -> int:
    """A big-endian number; 0 where the frame has ended."""
    return int.from_bytes(data[at : at + 2], "big")


def ip(data: bytes) -> Packets:
    """What claims to be an IP packet, if its version does."""
    if data and data[0] >> 4 in (4, 6):
        yield data


def nothing(_data: bytes) -> Packets:
    """Frames of links, or of protocols, that carry no IP packets."""
    return iter(())


def behind(size: int, reader: Reader) -> Reader:
    """What comes behind a header of that size."""
    return lambda data: reader(data[size:])


# Ethernet, and what has EtherTypes


def ether_type(kind: int, data: bytes) -> Packets:
    """What an EtherType says, or a length."""
    return llc(data[:kind]) if kind < ETHERTYPE_MIN else ETHERTYPES.get(kind, nothing)(data)


def typed(data: bytes) -> Packets:
    """An EtherType and what it says."""
    return ether_type(u16(data), data[2:])


def ethernet(data: bytes) -> Packets:
    """From the destination's address on."""
    return typed(data[12:])


def llc(data: bytes) -> Packets:
    """IEEE 802.2, with SNAP or without."""
    match data[:3]:
        case b"\xaa\xaa\x03":
            return snap(data[3:])
        case b"\x06\x06\x03":
            return ip(data[3:])
        case b"\xfe\xfe\x03":
            return nlpid(data[3:])
    return nothing(data)


def snap(data: bytes, *, padding: int = 2) -> Packets:
    """An organization's code, and its protocol; some links pad bridged frames."""
    match data[:3], u16(data, 3):
        case b"\0\0\0" | b"\0\0\xf8", kind:
            return ether_type(kind, data[5:])
        case b"\0\x80\xc2", 1 | 7:  # bridged Ethernet, RFC 2684; the first with its check sequence
            return ethernet(data[5 + padding :])
    return nothing(data)


def nlpid(data: bytes) -> Packets:
    """A protocol of ISO 9577, as in frame relay: RFC 2427."""
    match data[:1]:
        case b"\xcc" | b"\x8e":
            return ip(data[1:])
        case b"\x80":
            return snap(data[1:], padding=0)
        case b"\xcf":
            return ppp_protocol(data[1:])
        case b"\0":  # a byte that makes the rest even
            return nlpid(data[1:])
    return nothing(data)


def mpls(data: bytes) -> Packets:
    """Labels up to the last one. What they carry is told by its first bits."""
    at = 0
    while at + 4 <= len(data) and not data[at + 2] & 1:
        at += 4
    inner = data[at + 4 :]
    if inner[:4] == bytes(4):  # a control word, and so Ethernet
        return ethernet(inner[4:])
    return ip(inner)


def pppoe(data: bytes) -> Packets:
    """A PPPoE session's packet."""
    return ppp_protocol(data[6:])


def macsec(data: bytes) -> Packets:
    """IEEE 802.1AE where it does not encrypt."""
    flags = data[0] if data else 0
    if flags & 0x0C:
        return nothing(data)
    return typed(data[14 if flags & 0x20 else 6 :])


def nsh(data: bytes) -> Packets:
    """A network service header: RFC 8300."""
    size = (u16(data) & 0x3F) * 4
    readers: dict[bytes, Reader] = {b"\1": ip, b"\2": ip, b"\3": ethernet, b"\5": mpls}
    return readers.get(data[3:4], nothing)(data[size:])


def trill(data: bytes) -> Packets:
    """RFC 6325; its header has a length of options."""
    return ethernet(data[6 + (u16(data) >> 6 & 0x1F) * 4 :])


def arista(data: bytes) -> Packets:
    """Arista's time stamps, of 48 or 64 bits."""
    return typed(data[12 if u16(data, 2) & 0xFF == 0x10 else 10 :])


ETHERTYPES: dict[int, Reader] = {
    0x0800: ip,
    0x86DD: ip,
    0x6558: ethernet,
    0x8100: behind(2, typed),  # VLAN tags
    0x88A8: behind(2, typed),
    0x9100: behind(2, typed),
    0x9200: behind(2, typed),
    0x8847: mpls,
    0x8848: mpls,
    0x8864: pppoe,
    0x88E5: macsec,
    0x88E7: behind(4, ethernet),  # provider backbone bridges
    0x893F: behind(6, typed),  # IEEE 802.1BR
    0x8926: behind(4, typed),  # VNTag
    0x8909: behind(6, typed),  # Cisco's metadata
    0x8903: behind(2, ethernet),  # FabricPath
    0x22F3: trill,
    0x894F: nsh,
    0xD28B: arista,
}


# Serial lines


def ppp(data: bytes) -> Packets:
    """PPP with the address of HDLC, or without; or Cisco's HDLC, which is told by its address."""
    if data[:1] and data[0] in CISCO_ADDRESSES:
        return cisco_hdlc(data)
    return ppp_protocol(data[2:] if data[:2] == bytes((PPP_ADDRESS, UNNUMBERED)) else data)


def ppp_protocol(data: bytes) -> Packets:
    """A protocol of PPP, in one byte or two, and what it carries."""
    size = 1 if data and data[0] & 1 else 2
    return PPP_PROTOCOLS.get(int.from_bytes(data[:size], "big"), nothing)(data[size:])


def ppp_directed(data: bytes) -> Packets:
    """PPP behind a byte that says where it went, perhaps in the place of the address."""
    return ppp_protocol(data[2:]) if data[1:2] == bytes((UNNUMBERED,)) else ppp(data[1:])


def ppp_bridged(data: bytes) -> Packets:
    """RFC 3518: flags, and what kind of frame."""
    return ethernet(data[2:]) if data[1:2] == b"\1" else nothing(data)


PPP_PROTOCOLS: dict[int, Reader] = {
    0x0021: ip,
    0x0057: ip,
    0x0031: ppp_bridged,
    0x0281: mpls,
    0x0283: mpls,
}


ETHERTYPES[0x880B] = ppp_protocol


def cisco_hdlc(data: bytes) -> Packets:
    """An address, and an EtherType."""
    return typed(data[2:])


def frame_relay(data: bytes) -> Packets:
    """An address of 2 to 4 bytes, then RFC 2427, or Cisco's EtherTypes."""
    at = next((at for at in range(4) if data[at : at + 1] and data[at] & 1), 3) + 1
    if data[at : at + 1] == bytes((UNNUMBERED,)):
        return nlpid(data[at + 1 :])
    return ETHERTYPES.get(u16(data, at), nothing)(data[at + 2 :])


def atm(data: bytes) -> Packets:
    """RFC 2684: LLC, or a protocol that the circuit was set up for."""
    return llc(data) if data[:1] in (b"\xaa", b"\xfe", b"\x06") else ip(data)


def sun_atm(data: bytes) -> Packets:
    """SunATM: the direction and the kind of traffic, the circuit."""
    return llc(data[4:]) if data[:1] and data[0] & 0x0F == 2 else nothing(data)


# Loopback and packet filters of BSD


def family(number: int, data: bytes) -> Packets:
    """What an address family says, which systems number as they like."""
    return ip(data) if number in (2, *INET6_FAMILIES) else nothing(data)


def bsd_loopback(data: bytes) -> Packets:
    """A family in the byte order of the system that captured; some put an EtherType there."""
    if data[:2] == bytes((PPP_ADDRESS, UNNUMBERED)):
        return ppp(data)
    number = min(int.from_bytes(data[:4], order) for order in ("big", "little"))
    return ether_type(number, data[4:]) if number >= ETHERTYPE_MIN else family(number, data[4:])


def bsd_enc(data: bytes) -> Packets:
    """An IPsec device: a family, the parameters' index, flags."""
    return family(min(int.from_bytes(data[:4], order) for order in ("big", "little")), data[12:])


def bsd_pflog(data: bytes) -> Packets:
    """OpenBSD's packet filter: its header says how long it is, without what pads it."""
    size = data[0] if data else 0
    return family(data[1] if data[1:] else 0, data[size + -size % 4 :])


def bsd_old_pflog(data: bytes) -> Packets:
    """The same before OpenBSD 3.4."""
    return family(int.from_bytes(data[:4], "big"), data[28:])


# Linux


def sll(data: bytes) -> Packets:
    """`tcpdump -i any`; numbers below the EtherTypes are Linux's ETH_P_*."""
    return cooked(u16(data, 14), data[16:])


def sll2(data: bytes) -> Packets:
    """The same, version 2."""
    return cooked(u16(data), data[20:])


def cooked(protocol: int, data: bytes) -> Packets:
    """What a socket of the packet family says."""
    return llc(data) if protocol == 4 else ETHERTYPES.get(protocol, nothing)(data)


def nflog(data: bytes) -> Packets:
    """`tcpdump -i nflog`: attributes in the byte order of the system that captured."""
    at = 4
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("<HH", data, at)
        if size > len(data) - at:
            size, kind = struct.unpack_from(">HH", data, at)
        if kind == 9:  # NFULA_PAYLOAD
            return family(data[0], data[at + 4 : at + size])
        at += max(size + -size % 4, 4)
    return nothing(data)


def ipnet(data: bytes) -> Packets:
    """Solaris' IP observability."""
    return family(data[1] if data[1:] else 0, data[24:])


# Wi-Fi


def wifi(data: bytes, *, padded: bool = False) -> Packets:
    """IEEE 802.11: data that is not encrypted and is no fragment; `padded` to words."""
    if len(data) < 24 or data[0] & 0x4C != 0x08:  # data with a body
        return nothing(data)
    flags, fragment = data[1], data[22] & 0x0F
    if flags & 0x44 or fragment:  # encrypted, or in fragments
        return nothing(data)
    size = 30 if flags & 3 == 3 else 24
    aggregate = False
    if data[0] & 0x80:  # with quality of service
        aggregate = bool(data[size : size + 1] and data[size] & 0x80)
        size += 6 if flags & 0x80 else 2
    body = data[size + (-size % 4 if padded else 0) :]
    return aggregated(body) if aggregate else llc(body)


def aggregated(data: bytes) -> Packets:
    """An A-MSDU: addresses, a length and LLC, one behind the other at words."""
    at = 0
    while at + 14 <= len(data):
        size = u16(data, at + 12)
        yield from llc(data[at + 14 : at + 14 + size])
        at += 14 + size + -(14 + size) % 4


def radiotap(data: bytes) -> Packets:
    """802.11 behind radiotap, whose flags say whether the header is padded."""
    size = int.from_bytes(data[2:4], "little")
    present, at = int.from_bytes(data[4:8], "little"), 8
    word = present
    while word >> 31 and at + 4 <= size:
        word = int.from_bytes(data[at : at + 4], "little")
        at += 4
    if present & 1:  # a time of 8 bytes, at a multiple of 8
        at += -at % 8 + 8
    flags = data[at] if present & 2 and at < min(size, len(data)) else 0
    return wifi(data[size:], padded=bool(flags & 0x20))


def avs(data: bytes) -> Packets:
    """802.11 behind AVS' header."""
    return wifi(data[int.from_bytes(data[4:8], "big") :])


def prism(data: bytes) -> Packets:
    """802.11 behind Prism's header, or behind AVS', which some drivers send in its place."""
    if data[:3] == b"\x80\x21\x10":
        return avs(data)
    return wifi(data[min(int.from_bytes(data[4:8], order) for order in ("big", "little")) :])


def ppi(data: bytes) -> Packets:
    """Per-packet information: a header that says how long it is, and a link type."""
    size = int.from_bytes(data[2:4], "little")
    return LINKS.get(int.from_bytes(data[4:8], "little"), nothing)(data[size:])


# Others


def token_ring(data: bytes) -> Packets:
    """IEEE 802.5, perhaps with routing information."""
    routing = data[14] & 0x1F if data[14:] and data[8] & 0x80 else 0
    return llc(data[14 + routing :])


def fddi(data: bytes) -> Packets:
    """Frames with LLC."""
    return llc(data[13:]) if data[:1] and data[0] & 0xF0 == 0x50 else nothing(data)


def arcnet(data: bytes) -> Packets:
    """RFC 1201: IP's numbers are old ones."""
    kind, first = data[2:3], data[3:4]
    if kind not in (b"\xd4", b"\xf0", b"\xc4", b"\xf1"):
        return nothing(data)
    return ip(data[8:] if first == b"\xff" else data[6:])


def docsis(data: bytes) -> Packets:
    """A cable's frame, perhaps with an extended header."""
    if not data or data[0] & 0xC0:
        return nothing(data)
    return ethernet(data[6 + (data[1] if data[0] & 1 and data[1:] else 0) :])


def erf(data: bytes) -> Packets:
    """Endace's records: extension headers, and a link of their own."""
    kind, size = (data[8] if data[8:] else 0), 16
    extended = kind & 0x80
    while extended and size < len(data):
        extended = data[size] & 0x80
        size += 8
    readers: dict[int, Reader] = {
        1: ppp,
        2: behind(2, ethernet),
        11: behind(2, ethernet),
        16: behind(2, ethernet),
        22: ip,
        23: ip,
    }
    return readers.get(kind & 0x7F, nothing)(data[size:])


def exported(data: bytes) -> Packets:
    """What Wireshark has exported: tags, one of which names the protocol."""
    at, name = 0, b""
    while at + 4 <= len(data):
        tag, size = u16(data, at), u16(data, at + 2)
        at += 4 + size
        if tag == 0:
            break
        if tag == 12:
            name = data[at - size : at].rstrip(b"\0")
    readers: dict[bytes, Reader] = {b"ip": ip, b"ipv6": ip, b"eth": ethernet, b"ppp": ppp}
    return readers.get(name, nothing)(data[at:])


def infiniband(data: bytes) -> Packets:
    """IP over InfiniBand, behind the routing header: RFC 4391."""
    return ether_type(u16(data, 40), data[44:])


def juniper(reader: Reader) -> Reader:
    """Juniper's header, perhaps with extensions, or a family in the place of the link's header."""

    def read(data: bytes) -> Packets:
        if data[:3] != b"MGC" or len(data) < 6:
            return nothing(data)
        size = 6 + u16(data, 4) if data[3] & 0x80 else 4
        if data[3] & 0x02:
            return family(int.from_bytes(data[size : size + 4], "little"), data[size + 4 :])
        return reader(data[size:])

    return read


def mpacket(data: bytes) -> Packets:
    """IEEE 802.3br: a whole frame behind its preamble."""
    return ethernet(data[8:]) if data[7:8] == b"\xd5" else nothing(data)


LINKS: dict[int, Reader] = {
    0: bsd_loopback,
    1: ethernet,
    6: token_ring,
    7: arcnet,
    9: ppp,
    10: fddi,
    11: atm,
    12: ip,
    13: atm,
    14: ip,
    17: bsd_old_pflog,
    19: atm,
    50: ppp,
    51: pppoe,
    100: atm,
    101: ip,
    104: cisco_hdlc,
    105: wifi,
    106: atm,
    107: frame_relay,
    108: bsd_loopback,
    109: bsd_enc,
    113: sll,
    117: bsd_pflog,
    119: prism,
    122: behind(16, llc),  # IP over Fibre Channel
    123: sun_atm,
    127: radiotap,
    129: behind(2, arcnet),
    138: behind(16, typed),  # IP over IEEE 1394
    143: docsis,
    144: sll,
    163: avs,
    166: ppp_directed,
    178: juniper(ethernet),
    179: juniper(ppp),
    180: juniper(frame_relay),
    181: juniper(cisco_hdlc),
    192: ppi,
    197: erf,
    204: ppp_directed,
    205: behind(1, cisco_hdlc),
    206: behind(1, frame_relay),
    226: ipnet,
    228: ip,
    229: ip,
    239: nflog,
    242: infiniband,
    252: exported,
    274: mpacket,
    276: sll2,
    281: behind(16, typed),  # tags of Ethernet switches: Broadcom's
    282: behind(4, ethernet),
    284: behind(16, typed),  # and Marvell's
    285: behind(20, typed),
}


def packets_in(link: int, frame: bytes) -> Packets:
    """The IP packets of a frame. KeyError for a link type that is not known."""
    return LINKS[link](frame)
