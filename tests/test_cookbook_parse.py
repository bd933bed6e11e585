# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/parse-packets.md: what a packet of either kind says of itself."""

import signal
import socket
from pathlib import Path

import pytest
from netns import LOOPBACK, PORT, QUEUED_PORT, UdpPair, run
from recipes import recipe


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_line(tmp_path: Path, family: int) -> None:
    """The line has addresses, ports, and the length of the data."""
    with (
        recipe("parse-packets", tmp_path, "ip_packet.py", "rules.v4") as program,
        UdpPair(family) as udp,
    ):
        run(f"ip6tables-restore {tmp_path / 'rules.v6'}")
        udp.send(b"data")
        assert udp.recv() == b"data"
        host = LOOPBACK[family]
        program.wait_for(f"{host} {QUEUED_PORT} > {host} {PORT} protocol 17, 4 bytes")
        program.end(signal.SIGTERM)
