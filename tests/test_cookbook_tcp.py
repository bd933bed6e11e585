# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/tcp-data.md: TCP's data get another length, also where packets are lost."""

import signal
import socket
from pathlib import Path

import pytest
from netns import LOOPBACK, PORT, TIMEOUT, background, iptables, run, tcp_echo
from recipes import recipe

NAME = b"a colour with a longer name"
LINES = 600
DATA = b"".join(b"%04d: the colour of it %s\n" % (n, b"." * 130) for n in range(LINES))


def say(client: socket.socket) -> None:
    client.sendall(DATA)
    client.shutdown(socket.SHUT_WR)


def exchange() -> bytes:
    """Sends all, and reads what comes back until the other side has finished."""
    with socket.create_connection((LOOPBACK[socket.AF_INET], PORT), TIMEOUT) as client:
        sent = background(say, client)
        received = b"".join(iter(lambda: client.recv(1 << 16), b""))
        sent.result(TIMEOUT)
    return received


PROGRAMS = [
    "tcp_data.py",
    pytest.param("tcp_data_scapy.py", marks=pytest.mark.slow),
    pytest.param("tcp_data_dpkt.py", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("every", [0, 25])
@pytest.mark.parametrize("program", PROGRAMS)
def test_echo(tmp_path: Path, program: str, every: int) -> None:
    """Each word is replaced there, and each one in the answer; nothing else changes."""
    run("ip link set lo mtu 1500")
    with recipe("tcp-data", tmp_path, program, "tcp-data.v4") as running:
        if every:  # behind the queue on one way, before it on the other one
            lose = f"-m statistic --mode nth --every {every} --packet 9 -j DROP"
            iptables(f"-t raw -A PREROUTING -p tcp --dport {PORT} {lose}")
            iptables(f"-t raw -A PREROUTING -p tcp --sport {PORT} {lose}")
        with tcp_echo():
            received = exchange()
        running.end(signal.SIGTERM)
    # The longer name contains the word, which is replaced once more on the way back. A word that
    # two packets share is found on neither way, or on one.
    assert received.replace(NAME, b"colour").replace(NAME, b"colour") == DATA
    twice = NAME.replace(b"colour", NAME)
    assert received.count(twice) > LINES / 2
