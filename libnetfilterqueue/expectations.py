# SPDX-License-Identifier: GPL-2.0-or-later
"""Conntrack expectations, built from their fields: what ``set_verdict(expectation=...)`` takes."""

import enum
import ipaddress
import socket
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Self

from ._arguments import check_int, check_type, show
from ._netlink import attribute

__all__ = ("ExpectFlag", "build")

# linux/netfilter/nfnetlink_conntrack.h
_CTA_EXPECT_TUPLE, _CTA_EXPECT_MASK, _CTA_EXPECT_NAT = 2, 3, 10
_CTA_EXPECT_NAT_TUPLE = 2
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_SRC = {4: 1, 6: 3}  # by the version; the destination's is the next one
_CTA_PROTO_NUM = 1
_NLA_F_NESTED = 0x8000
_IPPROTO_DCCP = 33
_U16, _U32 = 0xFFFF, 0xFFFFFFFF


class ExpectFlag(enum.IntFlag):
    """The flags of an expectation.

    >>> expectations.ExpectFlag.NF_CT_EXPECT_PERMANENT
    <ExpectFlag.NF_CT_EXPECT_PERMANENT: 1>
    """

    NF_CT_EXPECT_PERMANENT = 0x1
    """It stays when a connection has come, until its time is over."""
    NF_CT_EXPECT_INACTIVE = 0x2
    """No connection matches it."""
    NF_CT_EXPECT_USERSPACE = 0x4
    """Kernels take it off."""


class _Number(NamedTuple):
    """A number, and the attribute that it goes in."""

    name: str
    kind: int
    size: int  # bytes
    highest: int


class _Protocol(NamedTuple):
    """What a protocol's tuples have beside addresses."""

    source: tuple[_Number, ...] = ()
    destination: tuple[_Number, ...] = ()


_PORTS = _Protocol((_Number("sport", 2, 2, _U16),), (_Number("dport", 3, 2, _U16),))
_PROTOCOLS = {
    socket.IPPROTO_ICMP: _Protocol(
        (_Number("id", 4, 2, _U16),), (_Number("type", 5, 1, 255), _Number("code", 6, 1, 255))
    ),
    socket.IPPROTO_ICMPV6: _Protocol(
        (_Number("id", 7, 2, _U16),), (_Number("type", 8, 1, 255), _Number("code", 9, 1, 255))
    ),
    socket.IPPROTO_TCP: _PORTS,
    socket.IPPROTO_UDP: _PORTS,
    socket.IPPROTO_GRE: _PORTS,  # its keys
    _IPPROTO_DCCP: _PORTS,
    socket.IPPROTO_SCTP: _PORTS,
    socket.IPPROTO_UDPLITE: _PORTS,
}
# What the kernel's own expectations have beside tuples, in the order of libnetfilter_conntrack.
_NUMBERS = (
    _Number("timeout", 4, 4, _U32),
    _Number("zone", 7, 2, _U16),
    _Number("flags", 8, 4, int(~ExpectFlag(0))),
    _Number("class", 9, 4, 3),
)
_NAT_DIR = _Number("dir", 1, 4, 1)
_TEXTS = {"helper": (6, 15), "fn": (11, 31)}  # attributes, and how long they may be
_FIELDS = ("expected", "mask", "nat", *(number.name for number in _NUMBERS), *_TEXTS)
_EVERY_NUMBER = [number.name for both in _PROTOCOLS.values() for part in both for number in part]
_ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class _Fields:
    """A mapping whose fields are read by their types. Errors name the field."""

    def __init__(self, what: str, value: Any, known: Collection[str]) -> None:
        check_type(isinstance(value, Mapping), f"{what} must be a mapping", value)
        self._what = what
        self._values = dict(value)
        for name in self._values:
            if name not in known:
                raise ValueError(
                    f"{what} has no field {show(name)}; it may have {', '.join(known)}"
                )

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def path(self, name: str) -> str:
        return f"{self._what}[{name!r}]"

    def get(self, name: str, default: object = None) -> Any:
        """Its value, or what is not None."""
        value = self._values.get(name, default)
        if name not in self and value is None:
            raise ValueError(f"{self._what} must have the field {name!r}")
        return value

    def fields(self, name: str, known: Collection[str], default: object = None) -> Self:
        return type(self)(self.path(name), self.get(name, default), known)

    def number(self, name: str, highest: int, default: int | None = None) -> int:
        number = check_int(self.path(name), self.get(name, default))
        if not 0 <= number <= highest:
            raise ValueError(f"{self.path(name)} must be in 0..{highest}, not {show(number)}")
        return number

    def attribute(self, number: _Number, default: int | None = None) -> bytes:
        value = self.number(number.name, number.highest, default)
        return attribute(number.kind, value.to_bytes(number.size))

    def text(self, name: str, longest: int) -> bytes:
        """As C has it, with its end."""
        text = self.get(name)
        check_type(isinstance(text, str), f"{self.path(name)} must be a str", text)
        if not (1 <= len(text) <= longest and text.isascii() and text.isprintable()):
            raise ValueError(f"{self.path(name)} must have 1..{longest} letters, not {show(text)}")
        return bytes(text, "ascii") + b"\0"

    def address(self, name: str, default: _Address | None = None) -> _Address:
        value = self.get(name, default)
        right = isinstance(value, (str, *_ADDRESSES))
        check_type(right, f"{self.path(name)} must be a str or an address of ipaddress", value)
        try:
            return ipaddress.ip_address(value)
        except ValueError as error:
            raise ValueError(f"{self.path(name)}: {error}") from None


def _nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NLA_F_NESTED, b"".join(attributes))


class _Tuples:
    """The tuples of an expectation. Kernels want each whole, and compare the sources alone.

    So all of them have the destination of the connection that is expected.
    """

    def __init__(self, given: _Fields) -> None:
        every = given.fields("expected", ["src", "dst", "proto", *_EVERY_NUMBER])
        self._proto = every.number("proto", 255)
        self._source, destination = _PROTOCOLS.get(self._proto, _Protocol())
        self.names = ["src", *(number.name for number in self._source)]
        others = ["dst", "proto", *(number.name for number in destination)]
        self.expected = given.fields("expected", self.names + others)
        self._dst = self.expected.address("dst")
        self._destination = [self.expected.attribute(number) for number in destination]

    def build(self, kind: int, fields: _Fields) -> bytes:
        """A tuple with that source; what is not named is 0."""
        version = self._dst.version
        src = fields.address("src", type(self._dst)(0))
        if src.version != version:
            raise ValueError(f"{fields.path('src')} must be of IPv{version} as dst, not {src}")
        addresses = (
            attribute(_CTA_IP_SRC[version], src.packed),
            attribute(_CTA_IP_SRC[version] + 1, self._dst.packed),
        )
        numbers = (
            attribute(_CTA_PROTO_NUM, bytes([self._proto])),
            *(fields.attribute(number, 0) for number in self._source),
            *self._destination,
        )
        return _nested(
            kind, _nested(_CTA_TUPLE_IP, *addresses), _nested(_CTA_TUPLE_PROTO, *numbers)
        )

    def mask(self) -> dict[str, object]:
        """The mask by which all matters that is named of the source."""
        every: dict[str, object] = dict.fromkeys(self.names, _U16)
        every["src"] = type(self._dst)(2**self._dst.max_prefixlen - 1)
        return {name: ones for name, ones in every.items() if name in self.expected}


def _build(call: str, expectation: Mapping[str, object]) -> bytes:
    """What `build` returns. Errors name the call."""
    given = _Fields(f"{call}(): expectation", expectation, _FIELDS)
    tuples = _Tuples(given)
    attributes = [
        tuples.build(_CTA_EXPECT_TUPLE, tuples.expected),
        tuples.build(_CTA_EXPECT_MASK, given.fields("mask", tuples.names, tuples.mask())),
        *(given.attribute(number) for number in _NUMBERS if number.name in given),
        *(
            attribute(kind, given.text(name, longest))
            for name, (kind, longest) in _TEXTS.items()
            if name in given
        ),
    ]
    if "nat" in given:
        nat = given.fields("nat", ["dir", *tuples.names])
        attributes.append(
            _nested(
                _CTA_EXPECT_NAT,
                nat.attribute(_NAT_DIR),
                tuples.build(_CTA_EXPECT_NAT_TUPLE, nat),
            )
        )
    return b"".join(attributes)


def build(expectation: Mapping[str, object]) -> bytes:
    """Build the bytes of an expectation from its fields: the nested attributes of ``NFQA_EXP``.

    Args:
        expectation: The fields, by their names.

    ``set_verdict(expectation=...)`` does it with a mapping. Fields that are not named are not sent.
    They have the names that conntrack(8) prints, and of libnetfilter_conntrack.

    - ``expected``: the connection that is to come, a mapping of ``dst``, ``proto``, and what its
      protocol has: ``dport`` for TCP, UDP, UDP-Lite, DCCP, SCTP and GRE (0 to 65535); ``type`` and
      ``code`` for ICMP and ICMPv6 (0 to 255). These must be there, and match. ``src`` may be left
      out, and so may ``sport`` or ICMP's ``id`` (0 to 65535): any matches then. ``src`` and ``dst``
      are addresses of the family of the packet, each a str or an object of ``ipaddress``. ``proto``
      is the IP protocol's number, 0 to 255.
    - ``mask``: which bits of ``src`` and of ``sport`` or ``id`` have to match, a mapping of those.
      What it does not name is 0, so any matches. Without it those that ``expected`` names match.
    - ``helper``: the helper of the expected connection, its name of 1 to 15 characters. Kernels
      take no expectation if they have no such helper for the protocol of the packet's own
      connection. Newer ones ignore the name.
    - ``class``: which of the helper's policies it has, 0 to 3, 0 if not named. Older
      kernels ignore it without ``helper``. It must be one of the policies of the helper of the
      packet's own connection: older kernels do not check that.
    - ``flags``: an ``ExpectFlag`` or an int of its bits.
    - ``nat``: for a connection that is translated, a mapping of ``dir``, 0 for the direction of
      the original packets and 1 for replies, and of ``src`` and ``sport`` or ``id``, 0 if not
      named: what the destination was before. It is used by the function that ``fn`` names.
    - ``fn``: the kernel's function that is called for the expected connection, a name of 1 to 31
      characters, say ``nat-follow-master``.
    - ``timeout`` in seconds (0 to ``2**32-1``) and ``zone`` (0 to 65535) are attributes of
      expectations as well. Kernels take both from elsewhere, and ignore these: the time from the
      helper's policy, the zone from the packet's own connection.

    Raises ``TypeError`` or ``ValueError``, which name the field. Never waits. Any thread may call
    it.

    >>> expected = {"dst": "192.0.2.1", "proto": socket.IPPROTO_TCP, "dport": 7001}
    >>> packet.set_verdict(nfq.NF_ACCEPT, expectation=expectations.build({"expected": expected}))
    """
    return _build("build", expectation)
