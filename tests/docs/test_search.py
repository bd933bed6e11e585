# SPDX-License-Identifier: GPL-2.0-or-later
"""The site's search finds the right page for what people ask in their own words.

It is the search itself: the site's JavaScript and its index, without a browser.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from py_mini_racer import MiniRacer

BUILT = Path(__file__).parent.parent.parent / "build" / "docs"
SCRIPTS = ("documentation_options.js", "language_data.js", "searchtools.js")
# What the scripts want of a browser before anything is shown.
BROWSER = """
var window = globalThis;
var document = {
    documentElement: {dataset: {content_root: "./"}},
    getElementById: () => null,
    readyState: "loading",
    addEventListener: () => {},
};
var SPHINX_HIGHLIGHT_ENABLED = false;
var _ready = () => {};
var _ = (text) => text;
"""
# As `Search.query` does it; the last result is shown first.
ASK = """
const find = (query) => {
    const [text, terms, excluded, marked, objects] = Search._parseQuery(query);
    return JSON.stringify(
        Search._performSearch(text, terms, excluded, marked, objects)
            .reverse().map((result) => result[0]));
};
"""
FIRST = 3  # results

QUERIES = {
    "operation not permitted": "troubleshooting",
    "CAP_NET_ADMIN needed docker": "troubleshooting",
    "no buffer space available": "troubleshooting",
    "ENOBUFS": "troubleshooting",
    "protocol not supported": "troubleshooting",
    "bound by another program": "troubleshooting",
    "fatal error libnetfilter_queue.h no such file": "troubleshooting",
    "failed building wheel for NetfilterQueue": "troubleshooting",
    "callback never called": "troubleshooting",
    "callback not called": "troubleshooting",
    "packets come once": "troubleshooting",
    "connection hangs": "troubleshooting",
    "slow": "troubleshooting",
    "forward chain not working": "troubleshooting",
    "WSL": "troubleshooting",
    "docker": "deployment",
    "internet stops after script ends": "troubleshooting",
    "ssh locked out": "troubleshooting",
    "offload": "troubleshooting",
    "No module named netfilterqueue": "troubleshooting",
    "no chain/target/match by that name": "troubleshooting",
    "ctrl-c does not stop program": "troubleshooting",
    "nftables queue rule": "rules",
    "iptables NFQUEUE": "rules",
    "priority of chains": "rules",
    "queue-bypass": "rules",
    "queue-balance": "rules",
    "cpu fanout": "rules",
    "NF_REPEAT loop": "rules",
    "NAT": "rules",
    "fwmark routing": "rules",
    "rule survive reboot": "tutorial",
    "iptables-persistent": "tutorial",
    "block domain names dns": "tutorial",
    "systemd service": "deployment",
    "without root": "privileges",
    "asyncio": "loops",
    "gevent": "loops",
    "multithreading threads": "loops",
    "multiple queues threads": "loops",
    "modify packet payload checksum": "verdicts",
    "modify packet": "verdicts",
    "default verdict": "verdicts",
    "mark a packet": "verdicts",
    "unit test without root": "testing",
    "test with pytest": "testing",
    "pcap": "testing",
    "memoryview": "buffers",
    "packet loss": "lost",
    "how fast packets per second": "performance",
    "increase throughput": "performance",
    "queue length maxlen": "performance",
    "restart without losing packets": "restarts",
    "migrate from NetfilterQueue": "moving",
    "fnfqueue": "moving-others",
    "golang nfqueue": "moving-others",
    "nfq rust": "moving-others",
    "nf-queue.c example": "moving-others",
    "nfqnl_test python": "moving-others",
    "conntrack mark": "cookbook/once-per-connection",
    "fastapi": "anyio",
    "install ubuntu debian": "installing",
    "alpine": "installing",
    "capture packets to pcapng file": "command-line",
    "exception in callback stops loop": "cookbook/production-loop",
    "log exception and continue": "cookbook/production-loop",
    "only first packets of a connection": "cookbook/once-per-connection",
    "connmark": "cookbook/once-per-connection",
    "get source ip address": "cookbook/parse-packets",
    "parse ipv6 header": "cookbook/parse-packets",
    "scapy slow": "troubleshooting",
    "connection refused": "cookbook/reject",
    "send RST instead of drop": "cookbook/reject",
    "icmp unreachable": "cookbook/reject",
    "modify http response": "cookbook/tcp-data",
    "sequence numbers": "cookbook/tcp-data",
    "change tcp payload length": "cookbook/tcp-data",
    "dns spoof": "cookbook/dns-answer",
    "fake dns reply": "cookbook/dns-answer",
    "NXDOMAIN": "cookbook/dns-answer",
    "block website": "cookbook/block-sni",
    "SNI": "cookbook/block-sni",
    "QUIC block": "cookbook/block-sni",
    "delay packets": "cookbook/rate-limit",
    "throttle bandwidth": "cookbook/rate-limit",
    "add latency": "cookbook/rate-limit",
    "redis": "cookbook/lookup",
    "lookup ip in redis": "cookbook/lookup",
    "ask http api before accept": "cookbook/lookup",
    "cache decisions": "cookbook/lookup",
    "fail open or closed": "cookbook/lookup",
    "redis pubsub": "cookbook/fleet",
    "update rules on many hosts": "cookbook/fleet",
    "central policy": "cookbook/fleet",
    "write packets to pcapng": "cookbook/pcapng",
    "duplicate packets": "cookbook/pcapng",
    "mirror traffic to another host": "cookbook/pcapng",
    "which process sent packet": "cookbook/which-program",
    "get pid of packet": "cookbook/which-program",
    "application firewall": "cookbook/which-program",
    "uid": "cookbook/which-program",
    "prometheus": "cookbook/metrics",
    "opentelemetry": "cookbook/metrics",
    "latency histogram": "cookbook/metrics",
    "sd_notify": "cookbook/watchdog",
    "WatchdogSec": "cookbook/watchdog",
    "program hangs restart": "cookbook/watchdog",
    "multiprocessing": "cookbook/worker-processes",
    "several processes": "cookbook/worker-processes",
    "use all cpu cores": "cookbook/worker-processes",
    "bridge": "cookbook/bridge",
    "br_netfilter": "cookbook/bridge",
    "transparent firewall": "cookbook/bridge",
    "DOCKER-USER": "cookbook/container-host",
    "kubernetes": "cookbook/container-host",
    "docker compose sidecar": "cookbook/container-host",
    "container capability NET_ADMIN": "cookbook/container-host",
}


class Search:
    """The site's search."""

    def __init__(self, engine: MiniRacer) -> None:
        self._engine = engine
        engine.eval(BROWSER)
        for script in SCRIPTS:
            engine.eval((BUILT / "_static" / script).read_text())
        engine.eval(ASK)
        engine.eval((BUILT / "searchindex.js").read_text())

    def __call__(self, query: str) -> list[str]:
        """The pages that are found, the best first."""
        found = json.loads(str(self._engine.eval(f"find({json.dumps(query)})")))
        return list(map(str, found))


@pytest.fixture(scope="module")
def search() -> Iterator[Search]:
    with MiniRacer() as engine:
        yield Search(engine)


def test_queries() -> None:
    """There are enough of them, for most of the pages."""
    assert len(QUERIES) >= 50
    pages = {str(path.relative_to(BUILT).with_suffix("")) for path in BUILT.rglob("*.html")}
    assert set(QUERIES.values()) <= pages


def test_nothing(search: Search) -> None:
    """What no page has is not found."""
    assert search("gobbledygook") == []


@pytest.mark.parametrize(("query", "page"), QUERIES.items(), ids=QUERIES)
def test_search(search: Search, query: str, page: str) -> None:
    """The page is among the first three results."""
    assert page in search(query)[:FIRST]
