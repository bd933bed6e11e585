# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/block-sni.md: a site is blocked by the name that TLS says."""

import signal
import socket
import ssl
from pathlib import Path

import pytest
from netns import TIMEOUT
from recipes import dropped, recipe


def hello(name: str) -> bytes:
    """What a client says first."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_sites(tmp_path: Path) -> None:
    """The hello of a blocked site does not arrive whole, another one does, and what follows it."""
    with (
        recipe("block-sni", tmp_path, "block_sni.py", "sni.v4") as program,
        socket.create_server(("127.0.0.1", 443)) as listener,
    ):
        for name in ("www.example.org", "www.blocked.example"):
            data = hello(name)
            with socket.create_connection(listener.getsockname(), TIMEOUT) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection, _ = listener.accept()
                with connection:
                    client.sendall(data[:100])
                    assert connection.recv(1000) == data[:100]
                    client.sendall(data[100:])
                    if name == "www.example.org":
                        client.sendall(b"more")
                        received = b""
                        while len(received) < len(data) - 100 + 4:
                            received += connection.recv(1000)
                        assert received == data[100:] + b"more"
                    else:
                        program.wait_until(lambda: dropped("POSTROUTING"))
                        with pytest.raises(BlockingIOError):
                            connection.recv(1, socket.MSG_DONTWAIT)
        program.end(signal.SIGTERM)


def test_quic(tmp_path: Path) -> None:
    """QUIC is refused at once."""
    with (
        recipe("block-sni", tmp_path, "block_sni.py", "sni.v4") as program,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(("127.0.0.1", 443))
        with pytest.raises(PermissionError):  # what a sender on this host is told
            client.send(b"QUIC")
        program.end(signal.SIGINT)
