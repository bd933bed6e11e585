# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks a nameserver of its own, in the network of the filter: run in the image by ./dev image."""

import contextlib
import socket
import time

import dns.message

SERVER = ("127.0.0.1", 53)
TIMEOUT = 60  # seconds, for what is to arrive


def ask(client: socket.socket, name: str) -> None:
    """Sends a query for the name."""
    with contextlib.suppress(PermissionError):  # dropped at once: the filter has no queue yet
        client.sendto(dns.message.make_query(name, "A").to_wire(), SERVER)


def first_arrived() -> str:
    """Which name the nameserver is asked for first, by queries for a blocked name and another."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(SERVER)
        server.settimeout(1)
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            ask(client, "x.ads.example")
            ask(client, "www.example")
            with contextlib.suppress(TimeoutError):
                return str(dns.message.from_wire(server.recv(512)).question[0].name)
    raise TimeoutError("no query has passed")


arrived = first_arrived()
assert arrived == "www.example.", arrived
