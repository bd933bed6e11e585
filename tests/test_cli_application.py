# SPDX-License-Identifier: GPL-2.0-or-later
"""What `libnetfilterqueue watch` reads in the data of packets: DNS, TLS, HTTP, and ICMP's names."""

import ssl
import struct
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP

from libnetfilterqueue.cli._application import UNKNOWN, read_application, server_name
from libnetfilterqueue.cli._dissect import dissect
from libnetfilterqueue.cli._icmp import message_name

ADDRESSES: dict[str, Any] = {"src": "192.0.2.1", "dst": "198.51.100.2"}
NAME = "www.example.com"


def said(packet: Any) -> str:
    """What a line has of it."""
    payload = bytes(packet)
    return read_application(dissect(0x800, payload), payload).text()


def query(kind: str = "A", number: int = 7) -> dns.message.Message:
    return dns.message.make_query(NAME, kind, id=number)


def answer(*records: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> bytes:
    """An answer to the query; records are `A 192.0.2.1` and the like."""
    message = dns.message.make_response(query())
    message.set_rcode(rcode)
    for record in records:
        kind, data = record.split(maxsplit=1)
        message.answer.append(dns.rrset.from_text(f"{NAME}.", 300, "IN", kind, data))
    return message.to_wire()


def udp(data: bytes, port: int = 53) -> Any:
    return IP(**ADDRESSES) / UDP(sport=5000, dport=port) / data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (query().to_wire(), f"DNS 7 A? {NAME}"),
        (query("HTTPS").to_wire(), f"DNS 7 HTTPS? {NAME}"),
        (query("TYPE65280").to_wire(), f"DNS 7 TYPE65280? {NAME}"),
        (answer("A 192.0.2.1"), f"DNS 7 NOERROR A? {NAME} A 192.0.2.1"),
        (
            answer("CNAME other.example.com.", "AAAA 2001:db8::1"),
            f"DNS 7 NOERROR A? {NAME} CNAME other.example.com., AAAA 2001:db8::1",
        ),
        (
            answer(*(f"A 192.0.2.{number}" for number in range(1, 7))),
            f"DNS 7 NOERROR A? {NAME} A 192.0.2.1, A 192.0.2.2, A 192.0.2.3, A 192.0.2.4, 2 more",
        ),
        (answer(rcode=dns.rcode.NXDOMAIN), f"DNS 7 NXDOMAIN A? {NAME}"),
        (answer("A 192.0.2.1")[:-2], f"DNS 7 NOERROR A? {NAME}"),
        (query().to_wire()[:-4], ""),
        (b"data", ""),
        (b"", ""),
    ],
)
def test_dns(data: bytes, expected: str) -> None:
    """Questions and answers are read, as far as the message is whole."""
    assert said(udp(data)) == expected
    assert said(IP(**ADDRESSES) / UDP(sport=53, dport=5000) / data) == expected
    length = struct.pack("!H", len(data))
    assert said(IP(**ADDRESSES) / TCP(sport=5000, dport=53) / (length + data)) == expected
    assert said(udp(data, port=54)) == ""


def test_dns_again() -> None:
    """The same question of another client has its own id."""
    assert [said(udp(query(number=number).to_wire())) for number in (1, 2)] == [
        f"DNS 1 A? {NAME}",
        f"DNS 2 A? {NAME}",
    ]


def test_dns_fields() -> None:
    """In JSON the parts of a message are apart."""
    payload = bytes(udp(answer("A 192.0.2.1")))
    read = read_application(dissect(0x800, payload), payload)
    assert read.dns is not None
    assert read.dns._asdict() == {
        "response": True,
        "rcode": "NOERROR",
        "questions": [{"name": NAME, "type": "A"}],
        "answers": [{"name": NAME, "type": "A", "ttl": 300, "data": "192.0.2.1"}],
        "summary": f"NOERROR A? {NAME} A 192.0.2.1",
    }


def hello(name: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = hello(NAME)


def test_cut_hello() -> None:
    """The name is read in the first part of a ClientHello, if it is there; no part is an error."""
    end = HELLO.index(NAME.encode()) + len(NAME)
    for size in range(len(HELLO)):
        name = server_name(HELLO[:size])
        if size < 43:
            assert name is None
        elif size < end:
            assert name is not None
            assert NAME.startswith(name)
        else:
            assert name == NAME


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"POST /a HTTP/1.0\r\n\r\n", "HTTP POST /a HTTP/1.0"),
        (b"GET /a HTTP/1.1\n", "HTTP GET /a HTTP/1.1"),
        (b"HTTP/1.1 404 Not Found\r\nServer: x\r\n", "HTTP HTTP/1.1 404 Not Found"),
        (b"HTTP/1.1 200 \r\n", "HTTP HTTP/1.1 200 "),
        (b"GET /a HTTP/2\r\n", ""),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n", ""),
        (b"get /a HTTP/1.1\r\n", ""),
        (b"SSH-2.0-OpenSSH\r\n", ""),
        (b"", ""),
    ],
)
def test_http(data: bytes, expected: str) -> None:
    """The first line of a request or a response is read, on any port."""
    assert said(IP(**ADDRESSES) / TCP(sport=5000, dport=8080, flags="PA") / data) == expected
    assert said(udp(data, port=8080)) == ""


@given(st.binary(max_size=300), st.sampled_from([53, 443]), st.booleans())
def test_any_bytes(data: bytes, port: int, is_tcp: bool) -> None:
    """No bytes raise an exception."""
    header = TCP(sport=5000, dport=port) if is_tcp else UDP(sport=5000, dport=port)
    for content in (data, query().to_wire()[:12] + data, HELLO[:44] + data):
        assert "\n" not in said(IP(**ADDRESSES) / header / content)


def test_nothing() -> None:
    """Packets without ports say nothing."""
    assert read_application(dissect(0x806, bytes(28)), bytes(28)) is UNKNOWN


@pytest.mark.parametrize(
    ("kind", "code", "v6", "expected"),
    [
        (8, 0, False, "echo-request"),
        (3, 3, False, "destination-unreachable port-unreachable"),
        (3, 77, False, "destination-unreachable code 77"),
        (11, 1, False, "time-exceeded code 1"),
        (200, 0, False, "type 200"),
        (135, 0, True, "nd-neighbor-solicit"),
        (1, 4, True, "destination-unreachable port-unreachable"),
        (2, 0, True, "packet-too-big"),
    ],
)
def test_icmp(kind: int, code: int, v6: bool, expected: str) -> None:
    """Messages have the names that nft gives them."""
    assert message_name(kind, code, v6=v6) == expected
