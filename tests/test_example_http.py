# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples that serve HTTP beside a queue: on asyncio, and on gevent."""

import contextlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import TIMEOUT, UdpPair, queue_rule
from programs import QUEUE, running

pytestmark = pytest.mark.slow  # each starts programs

PORT = 8080
SIGNALS = [signal.SIGINT, signal.SIGTERM]
UDP_HEADERS = 28


class Client:
    """One connection to the example's page, kept until the end."""

    def __init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT)

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def status(self, method: str = "GET", path: str = "/", body: str | None = None) -> Any:
        code, text = self.request(method, path, body)
        assert code == 200, text
        return json.loads(text)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def client() -> Iterator[Client]:
    with contextlib.closing(Client()) as client:
        yield client


@pytest.fixture
def udp() -> Iterator[UdpPair]:
    """Datagrams that pass through the example's queue."""
    queue_rule(QUEUE)
    with UdpPair() as pair:
        for sock, option in (pair.sender, socket.SO_SNDBUF), (pair.receiver, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)  # for many that are held
        yield pair


@pytest.mark.parametrize("signum", SIGNALS)
def test_traffic_shaper(
    tmp_path: Path, udp: UdpPair, client: Client, signum: signal.Signals
) -> None:
    """Packets pass at the rate that the page sets, in order, and none is lost at the end."""
    datagrams = [b"%d" % number + bytes(1000 - UDP_HEADERS - 1) for number in range(10)]
    with running(tmp_path, "traffic_shaper.py", 10, PORT) as program:
        program.wait_for("Running on")
        udp.send(*datagrams)
        assert udp.recv() == datagrams[0]
        program.wait_until(lambda: client.status()["packets"] == 10)
        status = client.status()
        assert (status["waiting"], status["verdicts"], status["rate"]) == (
            9,
            1,
            10,
        )  # more than a minute a packet
        assert udp.arrivals() == []

        start = time.monotonic()
        assert client.status("POST", body="rate=100000")["rate"] == 100_000
        assert [udp.recv() for _ in datagrams[1:]] == datagrams[1:]
        assert time.monotonic() - start > 0.05  # 8000 bytes at least, less a burst
        status = client.status()
        assert (status["waiting"], status["verdicts"], status["defaulted"]) == (0, 10, 0)

        for body in ("rate=0", "rate=nan", "rate=much", "burst=1", ""):
            assert client.request("POST", "/", body)[0] == 400
        assert client.status("POST", body="rate=1")["rate"] == 1
        udp.send(*datagrams)
        program.wait_until(lambda: client.status()["packets"] == 20)
        program.end(signum)
    assert sorted(udp.arrivals()) == datagrams


@pytest.mark.gevent
@pytest.mark.parametrize("signum", SIGNALS)
def test_gevent_wsgi(tmp_path: Path, udp: UdpPair, client: Client, signum: signal.Signals) -> None:
    """The page lists packets, holds them and lets them go; those held at the end are dropped."""
    with running(tmp_path, "gevent_wsgi.py", PORT) as program:
        program.wait_for("bound")
        udp.send(b"1")
        assert udp.recv() == b"1"
        assert client.status()["latest"] == ["1: NF_INET_LOCAL_OUT, 29 bytes"]
        assert client.request("GET", "/hold")[0] == 404

        assert client.status("POST", "/hold")["held"] == 0
        datagrams = [b"%03d" % number for number in range(120)]  # more than are handled at a time
        udp.send(*datagrams)
        program.wait_until(lambda: client.status()["packets"] == 121)
        program.wait_until(lambda: client.status()["held"] == 100)
        assert udp.arrivals() == []

        client.status("POST", "/release")
        assert sorted(udp.recv() for _ in datagrams) == datagrams
        program.wait_until(lambda: client.status()["verdicts"] == 121)
        assert client.status()["held"] == 0

        client.status("POST", "/hold")
        udp.send(*datagrams)
        program.wait_until(lambda: client.status()["packets"] == 241)
        program.end(signum)
    assert udp.arrivals() == []
