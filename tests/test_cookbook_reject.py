# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/reject.md: who is refused knows at once."""

import signal
import socket
from pathlib import Path

import pytest
from netns import PORT, TIMEOUT, UdpPair
from recipes import recipe

HOST = "127.0.0.1"


def test_tcp(tmp_path: Path) -> None:
    """What is allowed arrives; a packet that is not resets its connection at the sender."""
    with (
        recipe("reject", tmp_path, "reject.py", "reject.v4") as program,
        socket.create_server((HOST, PORT)) as listener,
        socket.create_connection((HOST, PORT), TIMEOUT) as client,
    ):
        connection, _ = listener.accept()
        with connection:
            client.sendall(b"fine")
            assert connection.recv(100) == b"fine"
            client.sendall(b"forbidden")
            with pytest.raises(ConnectionResetError):
                client.recv(100)
        program.end(signal.SIGTERM)


def test_udp(tmp_path: Path) -> None:
    """A datagram that is not allowed is answered by an ICMP error."""
    with recipe("reject", tmp_path, "reject.py", "reject.v4") as program, UdpPair() as udp:
        udp.send(b"fine")
        assert udp.recv() == b"fine"
        udp.send(b"forbidden")
        with pytest.raises(OSError, match="No route to host|Permission denied|refused"):
            udp.sender.recv(100)
        program.end(signal.SIGINT)
