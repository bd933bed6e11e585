# SPDX-License-Identifier: GPL-2.0-or-later
"""A server and a client of DNS over loopback."""

import contextlib
import socket
import socketserver
from collections.abc import Iterator

import dns.message
import dns.query
import dns.rrset
from netns import LOOPBACK, TIMEOUT, background

PORT = 53
ADDRESSES = {"A": ("192.0.2.1", "192.0.2.2", "192.0.2.3"), "AAAA": ("2001:db8::1",)}


class Server(socketserver.UDPServer):
    """Answers whatever it is asked with the same addresses, and notes the names."""

    def __init__(self, family: int) -> None:
        self.address_family = family
        self.asked: list[str] = []
        super().__init__((LOOPBACK[family], PORT), socketserver.BaseRequestHandler)

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, tuple)
        data, sock = request
        query = dns.message.from_wire(data)
        question = query.question[0]
        self.asked.append(str(question.name))
        answer = dns.message.make_response(query)
        addresses = ADDRESSES[question.rdtype.name]
        answer.answer.append(
            dns.rrset.from_text(question.name, 300, "IN", question.rdtype, *addresses)
        )
        sock.sendto(answer.to_wire(), client_address)


@contextlib.contextmanager
def serving(family: int) -> Iterator[Server]:
    with Server(family) as server:
        served = background(server.serve_forever, 0.01)
        yield server
        server.shutdown()
        served.result(TIMEOUT)


def ask(family: int, name: str, kind: str = "A") -> dns.rrset.RRset:
    """What the server answers; the kernel has checked lengths and checksum, dnspython the rest."""
    answer = dns.query.udp(dns.message.make_query(name, kind), LOOPBACK[family], timeout=TIMEOUT)
    assert len(answer.answer) == 1
    return answer.answer[0]


def addresses(rrset: dns.rrset.RRset) -> tuple[str, ...]:
    return tuple(sorted(rdata.to_text() for rdata in rrset))


def send(family: int, *data: bytes) -> None:
    """Sends datagrams to the server, whose answers nobody waits for."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        for datagram in data:
            sock.sendto(datagram, (LOOPBACK[family], PORT))
