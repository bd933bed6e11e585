# SPDX-License-Identifier: GPL-2.0-or-later
"""Expectations in verdicts: the message, the bytes that fields make, and what is refused.

What kernels make of them is in tests/vm.
"""

import ctypes
import ipaddress
import socket
import struct
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from played_kernel import (
    NFQA_CT,
    NFQA_EXP,
    NFQA_PAYLOAD,
    NFQA_VERDICT_HDR,
    PlayedKernel,
    attribute,
    attributes_of,
    packet_message,
    read_attributes,
)
from queues import Packet

import libnetfilterqueue as nfq
from libnetfilterqueue.expectations import ExpectFlag, build

TCP, ICMP, ICMPV6, ESP = 6, 1, 58, 50
TUPLE, MASK, TIMEOUT, HELP_NAME, ZONE, FLAGS, CLASS, NAT, FN = 2, 3, 4, 6, 7, 8, 9, 10, 11
NAT_DIR, NAT_TUPLE = 1, 2
MARK = 8  # of NFQA_CT
LEAST = attribute(TUPLE, bytes(4)) + attribute(MASK, bytes(4))
MAX = 1024

EXPECTED = {"dst": "10.0.0.2", "proto": TCP, "dport": 2000}
EVERYTHING: dict[str, Any] = {
    "expected": {"src": "10.0.0.1", "sport": 1000, **EXPECTED},
    "mask": {"src": "255.255.255.0", "sport": 0xFF00},
    "timeout": 300,
    "zone": 0x1234,
    "flags": ExpectFlag.NF_CT_EXPECT_PERMANENT,
    "class": 1,
    "helper": "ftp",
    "fn": "nat-follow-master",
    "nat": {"dir": 1, "src": "192.168.1.1", "sport": 77},
}
EXPECTED_6 = {"dst": "fd00::2", "proto": TCP, "dport": 2000}


@pytest.fixture
def kernel() -> Iterator[PlayedKernel]:
    with PlayedKernel() as kernel:
        yield kernel


def sent(kernel: PlayedKernel, *calls: Callable[[Packet], None]) -> list[dict[int, bytes]]:
    """The attributes of the verdicts that these calls give packets in one dispatch."""
    kernel.create_queue(1, lambda packet: calls[packet.id - 1](packet))
    for number in range(1, len(calls) + 1):
        kernel.socket.send(packet_message(number, b"payload"))
    assert kernel.handle.process(timeout=None) == len(calls)
    return [attributes_of(message) for message in kernel.received()]


def give(expectation: Any, **options: Any) -> Callable[[Packet], None]:
    return lambda packet: packet.set_verdict(nfq.NF_ACCEPT, expectation=expectation, **options)


# The message


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes(kernel: PlayedKernel, kind: Callable[[bytes], Any]) -> None:
    """Bytes go as they are, beside attributes of the connection, without which they count not."""
    (attributes,) = sent(kernel, give(kind(LEAST)))
    assert list(attributes) == [NFQA_VERDICT_HDR, NFQA_CT, NFQA_EXP]
    assert (attributes[NFQA_CT], attributes[NFQA_EXP]) == (b"", LEAST)


def test_mapping(kernel: PlayedKernel) -> None:
    """A mapping goes as the bytes of its fields, with all else that a verdict says."""
    (attributes,) = sent(kernel, give(EVERYTHING, ct_mark=5, payload=b"new"))
    assert attributes[NFQA_EXP] == build(EVERYTHING)
    assert read_attributes(attributes[NFQA_CT]) == {MARK: b"\0\0\0\5"}
    assert attributes[NFQA_PAYLOAD] == b"new"


def test_many(kernel: PlayedKernel) -> None:
    """Verdicts with the longest expectations wait together, and none is cut."""
    longest = [
        LEAST + attribute(FN, bytes([number]) * (MAX - len(LEAST) - 4)) for number in range(40)
    ]
    found = sent(kernel, *map(give, longest))
    assert [attributes[NFQA_EXP] for attributes in found] == longest


def test_last_one_stands(kernel: PlayedKernel) -> None:
    """The last call replaces the expectation that an earlier one set."""

    def callback(packet: Packet) -> None:
        give(LEAST)(packet)
        packet.accept()

    assert list(*sent(kernel, callback)) == [NFQA_VERDICT_HDR]


# What fields become


def tuple_of(value: bytes) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Addresses and numbers of a tuple."""
    both = read_attributes(value)
    assert list(both) == [1, 2]
    return read_attributes(both[1]), read_attributes(both[2])


def test_everything() -> None:
    """Each field has its attribute, in network byte order; tuples have the same destination."""
    found = read_attributes(build(EVERYTHING))
    dst = socket.inet_aton("10.0.0.2")
    nat = read_attributes(found.pop(NAT))
    assert nat[NAT_DIR] == b"\0\0\0\1"
    for value, src, sport in (
        (found.pop(TUPLE), "10.0.0.1", 1000),
        (found.pop(MASK), "255.255.255.0", 0xFF00),
        (nat[NAT_TUPLE], "192.168.1.1", 77),
    ):
        addresses, numbers = tuple_of(value)
        assert addresses == {1: socket.inet_aton(src), 2: dst}
        assert numbers == {1: bytes([TCP]), 2: sport.to_bytes(2), 3: (2000).to_bytes(2)}
    assert found == {
        TIMEOUT: struct.pack("!I", 300),
        ZONE: b"\x12\x34",
        FLAGS: b"\0\0\0\1",
        CLASS: b"\0\0\0\1",
        HELP_NAME: b"ftp\0",
        FN: b"nat-follow-master\0",
    }


@pytest.mark.parametrize(
    ("source", "mask"),
    [
        ({}, ("0.0.0.0", 0)),
        ({"src": "10.0.0.1"}, ("255.255.255.255", 0)),
        ({"sport": 0}, ("0.0.0.0", 0xFFFF)),
        ({"src": "10.0.0.1", "sport": 1}, ("255.255.255.255", 0xFFFF)),
    ],
)
def test_default_mask(source: dict[str, Any], mask: tuple[str, int]) -> None:
    """Without a mask that of the source matters which is named."""
    found = read_attributes(build({"expected": source | EXPECTED}))
    addresses, numbers = tuple_of(found[MASK])
    assert (socket.inet_ntoa(addresses[1]), int.from_bytes(numbers[2])) == mask


def test_partial_mask() -> None:
    """What a mask does not name does not matter."""
    addresses, numbers = tuple_of(
        read_attributes(build({"expected": {"src": "10.0.0.1", **EXPECTED}, "mask": {}}))[MASK]
    )
    assert (addresses[1], numbers[2]) == (bytes(4), bytes(2))


def test_ipv6() -> None:
    """Addresses may be IPv6, and objects of `ipaddress`."""
    expected = {"src": ipaddress.IPv6Address("fd00::1"), **EXPECTED_6}
    found = read_attributes(build({"expected": expected}))
    src, dst = (socket.inet_pton(socket.AF_INET6, f"fd00::{number}") for number in (1, 2))
    assert tuple_of(found[TUPLE])[0] == {3: src, 4: dst}
    assert tuple_of(found[MASK])[0] == {3: b"\xff" * 16, 4: dst}


@pytest.mark.parametrize(("proto", "first"), [(ICMP, 4), (ICMPV6, 7)])
def test_icmp(proto: int, first: int) -> None:
    """ICMP has type, code and id in the place of ports."""
    expected = {"dst": "::", "proto": proto, "id": 0x1234, "type": 8, "code": 1}
    found = read_attributes(build({"expected": expected}))
    rest = {1: bytes([proto]), first + 1: b"\x08", first + 2: b"\x01"}
    assert tuple_of(found[TUPLE])[1] == {first: b"\x12\x34"} | rest
    assert tuple_of(found[MASK])[1] == {first: b"\xff\xff"} | rest


def test_protocol_without_numbers() -> None:
    """Other protocols have addresses alone."""
    found = read_attributes(build({"expected": {"dst": "10.0.0.2", "proto": ESP}}))
    assert tuple_of(found[TUPLE])[1] == {1: bytes([ESP])}


class Library:
    """libnetfilter_conntrack, which iptables uses too."""

    IPV4_SRC, IPV4_DST, PORT_SRC, PORT_DST, L3PROTO, L4PROTO = 0, 1, 8, 9, 15, 17
    EXPECTED, MASK, TIMEOUT, ZONE, FLAGS, HELPER = 1, 2, 3, 4, 5, 6

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libnetfilter_conntrack.so.3")
        for name in ("nfct_new", "nfexp_new"):
            getattr(self._library, name).restype = ctypes.c_void_p
        self._expectation = ctypes.c_void_p(self._library.nfexp_new())

    def set_number(self, kind: int, value: int, bits: int = 32) -> None:
        getattr(self._library, f"nfexp_set_attr_u{bits}")(self._expectation, kind, value)

    def set_text(self, kind: int, value: str) -> None:
        self._library.nfexp_set_attr(self._expectation, kind, value.encode())

    def set_tuple(self, kind: int, src: str, sport: int, dst: str, dport: int) -> None:
        entry = ctypes.c_void_p(self._library.nfct_new())
        set_u8, set_u16, set_u32 = (
            getattr(self._library, f"nfct_set_attr_u{bits}") for bits in (8, 16, 32)
        )
        set_u8(entry, self.L3PROTO, socket.AF_INET)
        set_u8(entry, self.L4PROTO, TCP)
        for part, address in ((self.IPV4_SRC, src), (self.IPV4_DST, dst)):
            set_u32(entry, part, int.from_bytes(socket.inet_aton(address), "little"))
        for part, port in ((self.PORT_SRC, sport), (self.PORT_DST, dport)):
            set_u16(entry, part, socket.htons(port))
        self._library.nfexp_set_attr(self._expectation, kind, entry)
        self._library.nfct_destroy(entry)

    def build(self) -> bytes:
        """The attributes."""
        message = ctypes.create_string_buffer(struct.pack("=IHHII", 16, 0, 0, 0, 0), 4096)
        self._library.nfexp_nlmsg_build(message, self._expectation)
        self._library.nfexp_destroy(self._expectation)
        (size,) = struct.unpack_from("=I", message)
        return message.raw[16:size]


def tree(data: bytes, nests: dict[int, Any]) -> dict[int, Any]:
    """Attributes with those in them, whatever their order."""
    return {
        kind: tree(value, nests[kind]) if kind in nests else value
        for kind, value in read_attributes(data).items()
    }


def test_as_the_library_builds_it() -> None:
    """The attributes are those that libnetfilter_conntrack builds, which has no others in 1.0.9."""
    library = Library()
    library.set_tuple(Library.EXPECTED, "10.0.0.1", 1000, "10.0.0.2", 2000)
    library.set_tuple(Library.MASK, "255.255.255.0", 0xFF00, "10.0.0.2", 2000)
    library.set_number(Library.TIMEOUT, 300)
    library.set_number(Library.ZONE, 0x1234, 16)
    library.set_number(Library.FLAGS, 1)
    library.set_text(Library.HELPER, "ftp")
    nests: dict[int, Any] = {TUPLE: {1: {}, 2: {}}, MASK: {1: {}, 2: {}}}
    names = ("expected", "mask", "timeout", "zone", "flags", "helper")
    fields = {name: EVERYTHING[name] for name in names}
    assert tree(build(fields), nests) == tree(library.build(), nests)


# What is refused

WRONG: dict[str, tuple[type[Exception], str, Any]] = {
    "no bytes": (ValueError, "there is no CTA_EXPECT_TUPLE", b""),
    "no mask": (ValueError, "there is no CTA_EXPECT_MASK", attribute(TUPLE, bytes(4))),
    "no tuple": (ValueError, "there is no CTA_EXPECT_TUPLE", attribute(MASK, bytes(4))),
    "empty mask": (ValueError, "too short", attribute(TUPLE, bytes(4)) + attribute(MASK, b"")),
    "rest": (ValueError, "left over", LEAST + b"\0"),
    "long attribute": (ValueError, "longer than", LEAST + struct.pack("=HH", 5, 1)),
    "short attribute": (ValueError, "shorter than its header", LEAST + struct.pack("=HH", 3, 1)),
    "long": (ValueError, "at most 1024 bytes, not 1028", LEAST + attribute(FN, bytes(1008))),
    "text": (TypeError, r"set_verdict\(\): expectation must be a mapping, not str: 'text'", "text"),
    "pairs": (TypeError, "expectation must be a mapping, not list", [("mask", {})]),
    "empty": (ValueError, r"expectation must have the field 'expected'", {}),
    "unknown": (
        ValueError,
        r"expectation has no field 'tuple'; it may have expected, mask",
        {"tuple": 1},
    ),
    "unknown number": (ValueError, "expectation has no field 1;", {1: 1}),
    "no mapping": (
        TypeError,
        r"expectation\['expected'\] must be a mapping, not int",
        {"expected": 1},
    ),
}


def with_field(path: str, value: object) -> dict[str, Any]:
    """All fields, one of them changed."""
    outer, _, inner = path.partition(".")
    return EVERYTHING | {outer: EVERYTHING[outer] | {inner: value} if inner else value}


OUT_OF_RANGE = {
    "expected.proto": 256,
    "expected.dport": 65536,
    "expected.sport": -1,
    "mask.sport": 65536,
    "timeout": 1 << 32,
    "zone": 65536,
    "flags": 8,
    "class": 4,
    "nat.dir": 2,
    "nat.sport": 1 << 80,
    "helper": "sixteen letters!",
    "fn": "",
    "expected.dst": "10.0.0",
    "expected.src": "::1",
    "mask.src": "ffff::",
    "nat.src": ipaddress.IPv6Address("::"),
}
OF_WRONG_TYPE = {
    "expected.proto": "tcp",
    "expected.dport": None,
    "mask.src": 0xFFFFFF00,
    "timeout": 1.5,
    "helper": b"ftp",
    "fn": 1,
    "nat": "nat",
    "mask": 1,
}


def name_of(path: str) -> str:
    return r"build\(\): expectation" + "".join(rf"\['{name}'\]" for name in path.split("."))


@pytest.mark.parametrize("path", OUT_OF_RANGE)
def test_out_of_range(path: str) -> None:
    """A value that can't be is a ValueError that names the field."""
    with pytest.raises(ValueError, match=name_of(path)):
        build(with_field(path, OUT_OF_RANGE[path]))


@pytest.mark.parametrize("path", OF_WRONG_TYPE)
def test_of_wrong_type(path: str) -> None:
    """A value of another type is a TypeError that names the field."""
    with pytest.raises(TypeError, match=name_of(path)):
        build(with_field(path, OF_WRONG_TYPE[path]))


@pytest.mark.parametrize("field", ["dst", "proto", "dport"])
def test_missing(field: str) -> None:
    """The destination of a connection that is expected has to be there."""
    expected = {name: value for name, value in EXPECTED.items() if name != field}
    with pytest.raises(
        ValueError, match=rf"expectation\['expected'\] must have the field '{field}'"
    ):
        build({"expected": expected})


def test_of_another_protocol() -> None:
    """Fields that a protocol has not are refused."""
    with pytest.raises(ValueError, match=r"expectation\['expected'\] has no field 'dport'"):
        build({"expected": {"dst": "10.0.0.2", "proto": ESP, "dport": 1}})
    with pytest.raises(ValueError, match=r"expectation\['mask'\] has no field 'dport'"):
        build({"expected": EXPECTED, "mask": {"dport": 1}})


@pytest.mark.parametrize(("error", "message", "value"), WRONG.values(), ids=WRONG)
def test_refused(kernel: PlayedKernel, error: type[Exception], message: str, value: Any) -> None:
    """What is no expectation is refused, and nothing is sent of that verdict."""

    def callback(packet: Packet) -> None:
        with pytest.raises(error, match=message):
            give(value)(packet)
        packet.drop()

    assert list(*sent(kernel, callback)) == [NFQA_VERDICT_HDR]


class Raising(UserDict[str, object]):
    """A mapping that can't be read."""

    def __iter__(self) -> Iterator[str]:
        raise KeyError("of the mapping's own")


def test_mapping_that_raises(kernel: PlayedKernel) -> None:
    """The exception of a mapping's own reaches the caller."""

    def callback(packet: Packet) -> None:
        with pytest.raises(KeyError, match="of the mapping's own"):
            give(Raising())(packet)
        packet.drop()

    assert list(*sent(kernel, callback)) == [NFQA_VERDICT_HDR]
