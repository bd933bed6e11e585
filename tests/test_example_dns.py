# SPDX-License-Identifier: GPL-2.0-or-later
"""examples/dns_filter.py between a client and a server of DNS."""

import contextlib
import signal
import socket
import socketserver
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rrset
import pytest
from netns import LOOPBACK, TIMEOUT, background, iptables
from programs import QUEUE, Program, running

PORT = 53
ADDRESSES = {"A": ("192.0.2.1", "192.0.2.2", "192.0.2.3"), "AAAA": ("2001:db8::1",)}
OTHER = "198.51.100.7"
SIGNALS = {int(socket.AF_INET): signal.SIGINT, int(socket.AF_INET6): signal.SIGTERM}


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


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def family(request: pytest.FixtureRequest) -> int:
    """With rules for DNS."""
    family = int(request.param)
    iptables(f"-A OUTPUT -p udp --dport {PORT} -j NFQUEUE --queue-num {QUEUE}", family)
    iptables(f"-A INPUT -p udp --sport {PORT} -j NFQUEUE --queue-num {QUEUE}", family)
    return family


@pytest.fixture
def program(family: int, tmp_path: Path) -> Iterator[Program]:
    """The filter, with lists of both kinds."""
    names = tmp_path / "names"
    names.write_text("tracker.example\nADS.example.\n")
    options = ["--block", "blocked.example", "--block-file", names]
    options += ["--rewrite", f"www.example={OTHER}", "--rewrite", f"www2.example={OTHER}"]
    with running(tmp_path, "dns_filter.py", *options) as program:
        program.wait_for("bound")
        yield program


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


def test_dns_filter(family: int, program: Program) -> None:
    """What is listed does not arrive or is changed, all else passes as it is."""
    blocked = ["blocked.example.", "a.b.Blocked.example.", "x.tracker.example.", "ads.example."]
    with serving(family) as server:
        send(family, *(dns.message.make_query(name, "A").to_wire() for name in blocked))
        for name in blocked:
            program.wait_for(f"Dropped the query for {name}\n")
        assert addresses(ask(family, "unblocked.example.")) == ADDRESSES["A"]
        assert addresses(ask(family, "www.example.", "AAAA")) == ADDRESSES["AAAA"]
        rewritten = ask(family, "WWW.example.")
        assert (str(rewritten.name), rewritten.ttl) == ("WWW.example.", 300)
        assert addresses(rewritten) == (OTHER,)
        program.wait_for(f"Rewrote WWW.example. to {OTHER}\n")
        assert addresses(ask(family, "www2.example.")) == (OTHER,)
        assert addresses(ask(family, "a.www.example.")) == ADDRESSES["A"]
        assert server.asked == [
            "unblocked.example.",
            "www.example.",
            "WWW.example.",
            "www2.example.",
            "a.www.example.",
        ]
    program.end(SIGNALS[family])


def test_no_dns(family: int, program: Program) -> None:
    """What is no DNS is dropped, and the filter goes on."""
    query = dns.message.make_query("www.example", "A").to_wire()
    garbage = [b"", b"\0", b"\xff" * 100, query[:-1], query + b"junk"]
    with serving(family) as server:
        send(family, *garbage)
        program.wait_for("Dropped: ", len(garbage))
        assert addresses(ask(family, "www.example")) == (OTHER,)
        assert server.asked == ["www.example."]
    program.end(SIGNALS[family])
