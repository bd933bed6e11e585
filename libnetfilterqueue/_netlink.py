# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink attributes, which messages are made of."""

import struct


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded for the next one."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
