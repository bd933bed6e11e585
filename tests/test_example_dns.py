# SPDX-License-Identifier: GPL-2.0-or-later
"""examples/dns_filter.py between a client and a server of DNS."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
from nameserver import ADDRESSES, PORT, addresses, ask, send, serving
from netns import iptables
from programs import QUEUE, Program, running

OTHER = "198.51.100.7"
SIGNALS = {int(socket.AF_INET): signal.SIGINT, int(socket.AF_INET6): signal.SIGTERM}


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


def test_dns_filter(family: int, program: Program) -> None:
    """Listed names do not arrive or are changed, all others pass as they are."""
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
    """Packets that are not DNS are dropped, and the filter goes on."""
    query = dns.message.make_query("www.example", "A").to_wire()
    garbage = [b"", b"\0", b"\xff" * 100, query[:-1], query + b"junk"]
    with serving(family) as server:
        send(family, *garbage)
        program.wait_for("Dropped: ", len(garbage))
        assert addresses(ask(family, "www.example")) == (OTHER,)
        assert server.asked == ["www.example."]
    program.end(SIGNALS[family])
