# SPDX-License-Identifier: GPL-2.0-or-later
"""A web page that shows and holds the packets of a queue, on gevent under monkey-patching.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    pip install gevent
    python gevent_wsgi.py [QUEUE [PORT]]
    curl http://127.0.0.1:8080/
    curl -X POST http://127.0.0.1:8080/hold
    curl -X POST http://127.0.0.1:8080/release

While packets are held, each has a greenlet that waits, and the page is served as before. Ends with
Ctrl-C or SIGTERM; packets that are held then are dropped.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections import deque  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402
from gevent.pool import Pool  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402

import libnetfilterqueue as nfq  # noqa: E402
from libnetfilterqueue import green  # noqa: E402


class Gate:
    """What packets pass when it is open: a handler of packets, and the page about them."""

    def __init__(self, stream: green.PacketStream) -> None:
        self._stream = stream
        self._open = Event()
        self._open.set()
        self._held = 0
        self._latest: deque[str] = deque(maxlen=10)

    def handle(self, packet: nfq.NetfilterQueueData) -> None:
        """Let a packet pass, as soon as the gate is open; in a greenlet of its own."""
        self._latest.append(f"{packet.id}: {packet.hook.name}, {packet.original_length} bytes")
        self._held += 1
        try:
            self._open.wait()
        finally:
            self._held -= 1
        packet.accept()

    def page(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        """Answer a request: a WSGI application."""
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "GET", "/":
                pass
            case "POST", "/hold":
                self._open.clear()
            case "POST", "/release":
                self._open.set()
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"GET / or POST /hold or POST /release\n"]
        start_response("200 OK", [("Content-Type", "application/json")])
        status = {
            **self._stream.handle.stats()._asdict(),
            "held": self._held,
            "latest": list(self._latest),
        }
        return [json.dumps(status, indent=4).encode() + b"\n"]


def main(number: int = 1, port: int = 8080) -> None:
    """Serve packets and pages until interrupted."""
    with green.open_queue(number, range=1) as stream:
        gate = Gate(stream)
        server = WSGIServer(("127.0.0.1", port), gate.page, spawn=Pool())
        server.start()
        serving = gevent.spawn(green.serve, stream, gate.handle)
        for signum in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(signum, serving.kill)
        print(f"Queue {number} is bound, http://127.0.0.1:{port}/", flush=True)
        serving.get()
        server.stop(timeout=0)  # and with it the greenlets of the pool


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
