# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/lookup.md: redis and a web service are asked, which may be slow or away."""

import http.server
import signal
from pathlib import Path

import pytest
from clients import HOST, Listener, connect
from netns import TIMEOUT, background
from recipes import recipe
from redis_server import RedisServer

pytestmark = pytest.mark.slow

GOOD, BAD, LATER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
HTTP_PORT = 8000


def test_redis(tmp_path: Path, listener: Listener) -> None:
    """Blocked addresses are refused, answers outlive the server, and others then are refused."""
    url = f"redis://{HOST}"
    with (
        RedisServer(tmp_path / "redis") as server,
        recipe("lookup", tmp_path, "lookup.py", "lookup.v4", url) as program,
    ):
        server.client.sadd("blocked", BAD)
        listener.greet(GOOD)
        listener.refuse(BAD, program, f"{BAD}: NF_DROP")
        server.kill()
        listener.greet(GOOD)
        listener.refuse(LATER, program, f"{LATER}: NF_DROP")
        program.wait_for(f"{LATER}: no answer")
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(TIMEOUT) == 0
    assert "Traceback" not in program.output


@pytest.mark.slow  # the client waits before it tries again
def test_back_again(tmp_path: Path, listener: Listener) -> None:
    """A client that was refused without an answer connects by itself once there is one."""
    url = f"redis://{HOST}"
    with (
        RedisServer(tmp_path / "redis") as server,
        recipe("lookup", tmp_path, "lookup.py", "lookup.v4", url) as program,
    ):
        server.pause()
        asked = background(connect, LATER)
        program.wait_for(f"{LATER}: NF_DROP")
        server.resume()
        assert listener.accept() == LATER
        asked.result(TIMEOUT)


class Service(http.server.BaseHTTPRequestHandler):
    """Knows two addresses, and gives strange answers to others."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answers = {f"/{GOOD}": b'{"blocked": false}', f"/{BAD}": b'{"blocked": true}'}
        answer = answers.get(self.path, b"what?")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@pytest.mark.slow  # programs with web clients take long to start
def test_http(tmp_path: Path, listener: Listener) -> None:
    """A web service decides; what it does not know passes, as it was told to."""
    url = f"http://{HOST}:{HTTP_PORT}"
    with (
        http.server.ThreadingHTTPServer((HOST, HTTP_PORT), Service) as server,
        recipe("lookup", tmp_path, "lookup.py", "lookup.v4", url, "--fail", "open") as program,
    ):
        served = background(server.serve_forever, 0.01)
        listener.greet(GOOD)
        listener.refuse(BAD, program, f"{BAD}: NF_DROP")
        listener.greet(LATER)
        assert f"{LATER}: no answer" in program.output
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(TIMEOUT) == 0
        server.shutdown()
        served.result(TIMEOUT)
