# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the arguments of the adapters' calls. Their errors name the call and the value."""

import functools
import inspect
import math
import operator
from typing import Any, SupportsFloat, SupportsIndex


def show(value: object) -> str:
    """The beginning of a value's repr. Not every value has one: an int may be too long for it."""
    try:
        return f"{value!r:.100}"
    except Exception:  # noqa: BLE001 (it is the user's)
        return f"<{type(value).__name__} object>"


def check_type(right: bool, rule: str, value: object) -> None:
    """Raises TypeError with the rule unless the value is right."""
    if not right:
        raise TypeError(f"{rule}, not {type(value).__name__}: {show(value)}")


def check_int(what: str, value: SupportsIndex) -> int:
    """The value as an int, or TypeError."""
    # Not isinstance(value, SupportsIndex): a protocol's check costs as much as ten packets.
    check_type(hasattr(type(value), "__index__"), f"{what} must be an int", value)
    return operator.index(value)


def check_count(what: str, value: SupportsIndex) -> int:
    """The value as an int of at least 1, or TypeError or ValueError."""
    number = check_int(what, value)
    if number < 1:
        raise ValueError(f"{what} must be at least 1, not {show(number)}")
    return number


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it makes a coroutine: also a partial of such, or an object that is one."""
    while isinstance(function, functools.partial):
        function = function.func
    if not callable(function):
        return False
    call = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def check_timeout(what: str, value: SupportsFloat | SupportsIndex | None) -> float:
    """The value in seconds, infinity for None, or TypeError or ValueError."""
    if value is None:
        return math.inf
    right = hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
    check_type(right, f"{what} must be a number of seconds or None", value)
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{what} must be a number that a float holds, not {show(value)}") from None
    if not seconds >= 0:
        raise ValueError(f"{what} must be at least 0 or None, not {show(value)}")
    return seconds
