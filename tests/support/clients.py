# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients at several addresses of loopback, some of which are refused."""

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest
from netns import LOOPBACK, PORT, TIMEOUT, background
from programs import Program

HOST = LOOPBACK[socket.AF_INET]


def connect(source: str) -> None:
    """Connects from the address, and leaves."""
    socket.create_connection((HOST, PORT), TIMEOUT, (source, 0)).close()


class Listener:
    """Where they connect to, in the namespace that it was made in."""

    def __init__(self) -> None:
        self._socket = socket.create_server((HOST, PORT))
        self._socket.settimeout(TIMEOUT)

    def accept(self) -> str:
        """The address of the next client."""
        connection, (address, _) = self._socket.accept()
        connection.close()
        return str(address)

    def greet(self, source: str) -> None:
        """A client at the address gets through."""
        asked = background(connect, source)
        assert self.accept() == source
        asked.result(TIMEOUT)

    def refuse(self, source: str, program: Program, pattern: str) -> None:
        """The first packet of a client at the address is dropped, and the program prints it."""
        before = len(re.findall(pattern, program.output))
        with socket.socket() as client:
            client.bind((source, 0))
            client.setblocking(False)
            client.connect_ex((HOST, PORT))
            program.wait_for(pattern, before + 1)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with contextlib.closing(Listener()) as listener:
        yield listener
