# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/watchdog.md: the loop reports to whoever has started the program."""

import signal
import socket
from pathlib import Path

import pytest
from netns import TIMEOUT, UdpPair
from recipes import recipe


def test_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports when it is ready, with and without traffic, and when it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0watchdog of a test")
        systemd.settimeout(TIMEOUT)
        monkeypatch.setenv("NOTIFY_SOCKET", "@watchdog of a test")
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        with (
            recipe("watchdog", tmp_path, "watched.py", "watched.v4") as program,
            UdpPair() as udp,
        ):
            assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", *[b"WATCHDOG=1"] * 2]
            udp.send(b"fine", b"forbidden", b"fine too")
            assert [udp.recv(), udp.recv()] == [b"fine", b"fine too"]
            assert systemd.recv(100) == b"WATCHDOG=1"
            program.end(signal.SIGTERM)
            reports = iter(lambda: systemd.recv(100), b"STOPPING=1")
            assert set(reports) <= {b"WATCHDOG=1"}
