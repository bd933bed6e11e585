# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples with the original receive loop, as programs of their own, against real traffic."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns import LOOPBACK, PORT, TIMEOUT, iptables, tcp_echo, tcp_exchange
from programs import QUEUE, Program, running

import libnetfilterqueue as nfq

UDP_PORT = 9000
LARGE = bytes(range(256)) * 250  # loopback makes packets of up to 64 KiB of it


GEVENT_EXAMPLE = pytest.param("gevent_monkey.py", marks=pytest.mark.gevent)


@pytest.fixture(params=["readme_loop.py", GEVENT_EXAMPLE])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """An example that has bound its queue: traffic to our two ports goes through it."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for match in (f"-p tcp --dport {PORT}", f"-p udp --dport {UDP_PORT}"):
            iptables(f"-A OUTPUT {match} -j NFQUEUE --queue-num {QUEUE}", family)
    with running(tmp_path, request.param) as program:
        program.wait_until(answers)
        yield program


def answers() -> bool:
    """Whether a datagram gets through the queue, which it does when it is bound and set up."""
    with udp_socket(socket.AF_INET) as receiver, udp_socket(socket.AF_INET) as sender:
        receiver.settimeout(0.05)
        receiver.bind((LOOPBACK[socket.AF_INET], UDP_PORT))
        sender.sendto(b"anyone?", (LOOPBACK[socket.AF_INET], UDP_PORT))
        try:
            return receiver.recv(100) == b"anyone?"
        except TimeoutError:
            return False


def udp_socket(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM)


def udp_exchange(family: int, data: bytes) -> int:
    """Sends a datagram, which must arrive; returns the port it came from."""
    host = LOOPBACK[family]
    with udp_socket(family) as receiver, udp_socket(family) as sender:
        receiver.settimeout(TIMEOUT)
        receiver.bind((host, UDP_PORT))
        sender.bind((host, 0))
        sender.sendto(data, (host, UDP_PORT))
        assert receiver.recv(1 << 16) == data
        port: int = sender.getsockname()[1]
        return port


def packet(version: int, host: str, protocol: str, source: str, port: int) -> str:
    """What is printed of a packet, as a pattern."""
    return (
        "Received:\n"
        "    eth.src: \n"
        f"    ipv{version}.src: {host}\n"
        f"    ipv{version}.dst: {host}\n"
        f"    {protocol}.src: {source}\n"
        f"    {protocol}.dst: {port}\n"
    )


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_traffic(program: Program, family: int) -> None:
    """TCP and UDP, IPv4 and IPv6, small and large: every packet is printed, and passes."""
    version, host = (4 if family == socket.AF_INET else 6), LOOPBACK[family]
    for size in (10, 5000, 60_000):
        source = udp_exchange(family, LARGE[:size])
        expected = packet(version, host, "udp", str(source), UDP_PORT)
        program.wait_for(expected, 1)
    with tcp_echo(family):
        assert tcp_exchange(LARGE * 5, family) == LARGE * 5
    expected = packet(version, host, "tcp", r"\d+", PORT)
    program.wait_for(expected, 6)
    program.end(signal.SIGINT)


def test_terminated(program: Program) -> None:
    """SIGTERM ends the example as well as Ctrl-C, and its queue is free then."""
    program.end(signal.SIGTERM)
    with nfq.open() as handle:
        handle.create_queue(QUEUE, print)


@pytest.mark.parametrize("program", [GEVENT_EXAMPLE], indirect=True)
def test_other_greenlet_runs(program: Program) -> None:
    """While the loop waits for packets, the other greenlet runs; and between packets too."""
    ticks = "The other greenlet has run"
    for _ in range(2):
        program.wait_for(ticks, program.output.count(ticks) + 2)
        udp_exchange(socket.AF_INET, b"data")
    program.end(signal.SIGINT)
