# SPDX-License-Identifier: GPL-2.0-or-later
"""examples/conntrack_helper.py: connections that a server announces get through, and no others."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns import LOOPBACK, TIMEOUT, iptables, run
from programs import Program, running

HOST = LOOPBACK[socket.AF_INET]
CONTROL_PORT = 2100
RULE = f"-t raw -A OUTPUT -p tcp --dport {CONTROL_PORT} -j CT --helper pigeon"
ANNOUNCED_PORT, OTHER_PORT = 7001, 7002


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The example, its helper named by a rule: others let only its connections through."""
    with running(tmp_path, "conntrack_helper.py") as program:
        program.wait_for("has queue")
        iptables(RULE)
        iptables("-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
        iptables(f"-A INPUT -p tcp --dport {CONTROL_PORT} -j ACCEPT")
        iptables("-A INPUT -p tcp -j REJECT --reject-with tcp-reset")
        yield program
        run("conntrack -F")  # which hold the helper
        iptables("-t raw -F")


def listening(port: int) -> socket.socket:
    server = socket.create_server((HOST, port))
    server.settimeout(TIMEOUT)
    return server


def connects(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), TIMEOUT):
            return True
    except ConnectionRefusedError:
        return False


def test_announced_connection(program: Program) -> None:
    """The client may connect to the port that it was told, once, and to no other."""
    with (
        listening(CONTROL_PORT) as server,
        listening(ANNOUNCED_PORT),
        listening(OTHER_PORT),
        socket.create_connection((HOST, CONTROL_PORT), TIMEOUT) as client,
        server.accept()[0] as connection,
    ):
        assert not connects(ANNOUNCED_PORT)
        connection.sendall(b"HELLO\n")
        assert client.recv(100) == b"HELLO\n"
        assert not connects(ANNOUNCED_PORT)
        connection.sendall(b"PORT %d\n" % ANNOUNCED_PORT)
        assert client.recv(100) == b"PORT %d\n" % ANNOUNCED_PORT
        assert "helper=pigeon" in run("conntrack -L expect")
        assert not connects(OTHER_PORT)
        assert connects(ANNOUNCED_PORT)
        assert not connects(ANNOUNCED_PORT)
    assert f"{HOST} may connect to port {ANNOUNCED_PORT} of {HOST}" in program.output


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_end(program: Program, signum: signal.Signals) -> None:
    """When it has ended, connections get through without it, though a rule names its helper."""
    program.end(signum)
    with listening(CONTROL_PORT):
        assert connects(CONTROL_PORT)


def test_nothing_left(program: Program) -> None:
    """Where no rule names its helper any more, the kernel has forgotten it in the end."""
    iptables("-t raw -F")
    run("conntrack -F")
    program.end(signal.SIGINT)
    with pytest.raises(RuntimeError):
        iptables(RULE)
