# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocols that IP carries, with the names of the C library's headers."""

import socket

from libnetfilterqueue.cli._numbers import number_in

_NUMBER = number_in(0, 0xFF)

# First those that the socket module leaves out, or calls as IP itself. No packet carries those from
# IPPROTO_RAW on: they are for the socket API.
NUMBERS = {
    "hopopts": 0,
    "dccp": 33,
    "beetph": 94,
    "encap": 98,
    "comp": 108,
    "l2tp": 115,
    "mh": 135,
    "ethernet": 143,
} | {
    name.removeprefix("IPPROTO_").lower(): int(number)
    for name, number in vars(socket).items()
    if name.startswith("IPPROTO_") and 0 < number < socket.IPPROTO_RAW
}
_NAMES = {number: name for name, number in NUMBERS.items()}


def protocol_name(number: int) -> str:
    """Its name, or its number in digits."""
    return _NAMES.get(number, str(number))


def protocol_number(text: str) -> int:
    """Reads a name or a number. Raises ValueError."""
    return NUMBERS[text] if text in NUMBERS else _NUMBER(text)
