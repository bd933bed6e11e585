# SPDX-License-Identifier: GPL-2.0-or-later
"""A collector of OpenTelemetry's, in the calling thread's network namespace."""

import contextlib
import http.server
from collections.abc import Iterator

from netns import TIMEOUT, background

HOST, PORT = "127.0.0.1", 4318


@contextlib.contextmanager
def collector() -> Iterator[list[bytes]]:
    """It listens at the usual port; what programs have sent."""
    exports: list[bytes] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            exports.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((HOST, PORT), Answer) as server:
        served = background(server.serve_forever, 0.01)
        try:
            yield exports
        finally:
            server.shutdown()
            served.result(TIMEOUT)
