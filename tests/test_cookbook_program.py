# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/which-program.md: only some programs may send."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from netns import LOOPBACK, PORT, TIMEOUT, UdpPair, sender, tool_environment
from recipes import recipe

HOST = LOOPBACK[socket.AF_INET]
OURS = re.escape(os.readlink("/proc/self/exe"))


def shell(script: str) -> "subprocess.Popen[bytes]":
    """A program that has sockets, and is not Python."""
    return subprocess.Popen(
        ["bash", "-c", script], stdin=subprocess.PIPE, env=tool_environment(), process_group=0
    )


@pytest.fixture
def allowed() -> str:
    return os.path.realpath("/bin/bash")


def test_tcp(tmp_path: Path, allowed: str) -> None:
    """The allowed program connects. The first packet of another one is dropped."""
    with (
        recipe("which-program", tmp_path, "which_program.py", "program.v4", allowed) as program,
        socket.create_server((HOST, PORT)) as listener,
    ):
        listener.settimeout(TIMEOUT)
        with shell(f"exec 3<>/dev/tcp/{HOST}/{PORT}; read line") as other:
            listener.accept()[0].close()
            program.wait_for(
                rf"{re.escape(allowed)} \(pid {other.pid}, uid {sender()[0]}, .*: NF_ACCEPT"
            )
        with socket.socket() as client:
            client.setblocking(False)
            client.connect_ex((HOST, PORT))
            program.wait_for(rf"{OURS} \(pid {os.getpid()}, .*: NF_DROP")
        program.end(signal.SIGTERM)


def test_udp(tmp_path: Path, allowed: str) -> None:
    """Datagrams of the allowed program arrive, and others do not."""
    with (
        recipe("which-program", tmp_path, "which_program.py", "program.v4", allowed) as program,
        UdpPair() as udp,
    ):
        udp.send(b"ours")
        with shell(f"exec 3<>/dev/udp/{HOST}/{PORT}; echo theirs >&3; read line"):
            assert udp.recv() == b"theirs\n"
        program.wait_for(rf"{OURS} \(pid {os.getpid()}, .*: NF_DROP")
        program.end(signal.SIGINT)
