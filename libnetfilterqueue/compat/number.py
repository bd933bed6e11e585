# SPDX-License-Identifier: GPL-2.0-or-later
"""Attributes that only pass on what the engine's packet has."""

from typing import Any


class Number:
    """An attribute that is an int, as the kernel has sent it. It can't be set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, packet: Any, owner: type) -> int:
        return int(getattr(packet._data, self._name))
