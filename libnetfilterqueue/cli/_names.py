# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's names for its numbers. Newer kernels may send numbers that have no name here."""

import enum
import functools
import socket


def name_of(number: int) -> str | int:
    """An enum's member by its name; a number that has none as it is."""
    if isinstance(number, enum.Enum) and number.name in type(number).__members__:
        return number.name
    return int(number)


@functools.cache
def flag_names(flags: enum.IntFlag) -> list[str | int]:
    """The names of the flags that are set, and each bit without a name by its value."""
    bits = (1 << position for position in range(int(flags).bit_length()))
    known = {int(flag): flag.name for flag in type(flags)}
    return [known.get(bit) or bit for bit in bits if flags & bit]


@functools.cache
def family_name(family: int) -> str | int:
    """A protocol family, as the socket module calls it."""
    try:
        return socket.AddressFamily(family).name
    except ValueError:
        return family
