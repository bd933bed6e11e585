# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/dns-answer.md: the query's own packet comes back as the answer."""

import contextlib
import signal
import socket
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest
from nameserver import ask, serving
from netns import TIMEOUT, Namespace, run, veth
from recipes import recipe

SERVERS = ["127.0.0.1", "203.0.113.53"]  # one of this host, one that does not exist


@pytest.mark.parametrize("server", SERVERS)
def test_answers(tmp_path: Path, server: str) -> None:
    """Names of the list are answered at once, also where there is no server."""
    with contextlib.closing(Namespace()) as other:
        veth("eth0", "eth0", other)
        run("ip address add 192.0.2.1/24 dev eth0")
        run("ip route add default dev eth0")
        with recipe("dns-answer", tmp_path, "dns_answer.py", "dns-answer.v4") as program:
            query = dns.message.make_query("www.example", "A")
            answer = dns.query.udp(query, server, timeout=TIMEOUT)
            assert [rdata.to_text() for rdata in answer.answer[0]] == ["192.0.2.80"]
            query = dns.message.make_query("ads.example", "A")
            answer = dns.query.udp(query, server, timeout=TIMEOUT)
            assert answer.rcode() == dns.rcode.NXDOMAIN
            program.end(signal.SIGTERM)


def test_others(tmp_path: Path) -> None:
    """Other names are asked of the server."""
    with (
        recipe("dns-answer", tmp_path, "dns_answer.py", "dns-answer.v4") as program,
        serving(socket.AF_INET) as server,
    ):
        ask(socket.AF_INET, "other.example")
        assert server.asked == ["other.example."]
        program.end(signal.SIGINT)
