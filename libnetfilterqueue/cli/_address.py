# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a server listens, on the command line."""

from typing import NamedTuple

from libnetfilterqueue.cli._numbers import number_in

PORT = number_in(0, 0xFFFF)


class Address(NamedTuple):
    """A host and a port of it."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Reads [HOST:]PORT, an address of IPv6 in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if (colon and not bare) or (":" in bare) != host.startswith("["):
        raise ValueError(f"{text!r} is not [HOST:]PORT")
    return Address(bare or "127.0.0.1", PORT(port))
