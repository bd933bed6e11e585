# SPDX-License-Identifier: GPL-2.0-or-later
"""The example in FastAPI, which asks before packets leave."""

import http.client
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from netns import TIMEOUT, UdpPair, queue_rule
from programs import QUEUE, running

import libnetfilterqueue as nfq

pytestmark = pytest.mark.slow  # each starts programs

PORT = 8080


def ask(method: str, path: str) -> tuple[int, Any]:
    """What the application answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT)
    connection.request(method, path)
    response = connection.getresponse()
    answer = json.load(response)
    connection.close()
    return response.status, answer


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_fastapi_approval(tmp_path: Path, signum: signal.Signals) -> None:
    """Packets wait until somebody has said whether their address is allowed."""
    queue_rule(QUEUE)
    with UdpPair() as udp, running(tmp_path, "fastapi_approval.py", PORT) as program:
        program.wait_for("Uvicorn running")
        udp.send(b"1", b"2")
        program.wait_until(lambda: ask("GET", "/waiting") == (200, ["127.0.0.1"]))
        assert udp.arrivals() == []
        assert ask("PUT", "/127.0.0.1?allowed=true") == (200, None)
        assert sorted(udp.recv() for _ in range(2)) == [b"1", b"2"]
        assert ask("GET", "/waiting") == (200, [])
        udp.send(b"3")
        assert udp.recv() == b"3"
        assert ask("PUT", "/127.0.0.1?allowed=false") == (200, None)
        udp.send(b"4")
        program.wait_until(lambda: nfq.queue_status()[0].waiting == 0)
        assert ask("PUT", "/127.0.0.1?allowed=true") == (200, None)
        udp.send(b"5")
        assert udp.recv() == b"5"
        for path in ("/127.0.0.1", "/example?allowed=true"):
            assert ask("PUT", path)[0] == 422
        program.end(signum, 0 if signum == signal.SIGINT else -signum)


def test_packets_that_wait_at_the_end(tmp_path: Path) -> None:
    """What waits when the program ends is dropped."""
    queue_rule(QUEUE)
    with UdpPair() as udp, running(tmp_path, "fastapi_approval.py", PORT) as program:
        program.wait_for("Uvicorn running")
        udp.send(b"1", b"2")
        program.wait_until(lambda: ask("GET", "/waiting") == (200, ["127.0.0.1"]))
        program.end(signal.SIGINT)
        assert udp.arrivals() == []
