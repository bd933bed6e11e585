# SPDX-License-Identifier: GPL-2.0-or-later
"""Many flows of datagrams, for rules that spread them over several queues."""

import contextlib
import socket
from collections.abc import Iterator

from netns import LOOPBACK, PORT, TIMEOUT, iptables
from queues import Packet

HOST = LOOPBACK[socket.AF_INET]
FLOWS = [f"127.0.{number}.1" for number in range(64)]


def balance(first: int, last: int, options: str = "") -> None:
    """Spreads the datagrams to `PORT` over the queues, by their addresses unless told otherwise."""
    target = f"NFQUEUE --queue-balance {first}:{last} {options}"
    iptables(f"-t raw -A OUTPUT -p udp --dport {PORT} -j {target}")


@contextlib.contextmanager
def sender(host: str = HOST, port: int = 0) -> Iterator[socket.socket]:
    """A socket that sends from there to `PORT`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))
        sock.connect((HOST, PORT))
        yield sock


def send_flows(rounds: int) -> None:
    """Sends a datagram of each flow in each round; all arrive, and nothing else."""
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind((HOST, PORT))
        receiver.settimeout(TIMEOUT)
        senders = {host: stack.enter_context(sender(host)) for host in FLOWS}
        for number in range(rounds):
            for host, sock in senders.items():
                sock.send(f"{host} {number}".encode())
            arrived = sorted(receiver.recv(100).decode() for _ in FLOWS)
            assert arrived == sorted(f"{host} {number}" for host in FLOWS)


def flow_of(packet: Packet) -> str:
    """Which of the flows a packet belongs to."""
    return socket.inet_ntoa(packet.payload[12:16])
