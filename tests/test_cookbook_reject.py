# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/reject.md: who is refused knows at once."""

import signal
import socket
from pathlib import Path

import pytest
from netns import PORT, TIMEOUT, UdpPair, background
from queues import Handle, process_until
from recipes import load, recipe

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
        with pytest.raises(OSError, match="No route to host"):
            udp.sender.recv(100)
        program.end(signal.SIGINT)


def test_syn(handle: Handle, tmp_path: Path) -> None:
    """Whose SYN is rejected is refused the connection."""
    load("reject", tmp_path, "reject.v4")
    handle.create_queue(1, lambda packet: packet.accept(mark=0x10))
    asked = background(socket.create_connection, (HOST, PORT), TIMEOUT)
    process_until(handle, asked.done)
    with pytest.raises(ConnectionRefusedError):
        asked.result(TIMEOUT)
