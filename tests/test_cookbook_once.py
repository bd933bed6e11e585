# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/once-per-connection.md: the kernel carries the rest of a connection."""

import contextlib
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns import PORT, TIMEOUT, background
from programs import Program
from recipes import dropped, recipe

LENGTH = 10_000_000


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Answers each connection's request with a download, or is left alone."""

    def serve(listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                if connection.recv(1000) == b"stop":
                    return
                connection.sendall(bytes(LENGTH))

    with socket.create_server(("127.0.0.1", PORT)) as listener:
        served = background(serve, listener)
        yield
        ask(b"stop")
        served.result(TIMEOUT)


def ask(request: bytes, timeout: float = TIMEOUT) -> int:
    """How many bytes a request brings."""
    with socket.create_connection(("127.0.0.1", PORT), timeout) as connection:
        connection.sendall(request)
        return sum(map(len, iter(lambda: connection.recv(1 << 16), b"")))


def queued(program: Program) -> int:
    """How many packets the program has seen, when it has ended."""
    program.end(signal.SIGTERM)
    packets = re.search(r"(\d+) packets were queued", program.output)
    assert packets is not None
    return int(packets[1])


def test_download(tmp_path: Path) -> None:
    """Of a long download the program sees only the first packets."""
    with recipe("once-per-connection", tmp_path, "once.py", "once.v4") as program:
        with server():
            assert ask(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n") == LENGTH
        assert 3 < queued(program) < 20


def test_blocked(tmp_path: Path) -> None:
    """The packet that decides is not delivered, and the kernel drops all others by itself."""
    with (
        recipe("once-per-connection", tmp_path, "once.py", "once.v4") as program,
        socket.create_server(("127.0.0.1", PORT)) as listener,
        socket.create_connection(listener.getsockname(), TIMEOUT) as client,
    ):
        connection, _ = listener.accept()
        with connection:
            client.sendall(b"GET / HTTP/1.1\r\nHost: blocked.example\r\n\r\n")
            program.wait_until(lambda: dropped("DECIDE"))  # it was sent again
            assert dropped("POSTROUTING") == 1
            with pytest.raises(BlockingIOError):
                connection.recv(1, socket.MSG_DONTWAIT)
        assert queued(program) < 10
