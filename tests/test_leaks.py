# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing leaks: no reference, no memory, no descriptor, however often and wrongly one calls."""

import contextlib
import ctypes
import gc
import operator
import os
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from callers import CORE, Index, Member, Objects, Unshowable, domain
from misuse import PREDICAMENTS, acting, bad_arities, close, exporter, fail, real_objects

WARM_UP = 5
REPEATS = 10
ROUNDS = 3

# What is used


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


_mallinfo = ctypes.CDLL(None).mallinfo2
_mallinfo.restype = _Mallinfo
# Only a debug build of Python counts references.
_references: Callable[[], int] = getattr(sys, "gettotalrefcount", lambda: 0)


class Usage(NamedTuple):
    """What the process uses."""

    references: int
    blocks: int
    heap: int  # bytes that malloc has given away
    descriptors: int

    @classmethod
    def now(cls) -> "Usage":
        gc.collect()
        info = _mallinfo()
        descriptors = len(os.listdir("/proc/self/fd"))
        heap = info.uordblks + info.hblkhd
        return cls(_references(), sys.getallocatedblocks(), heap, descriptors)


NOTHING = Usage(0, 0, 0, 0)


def growth(call: Callable[[], object]) -> Usage:
    """By how much each number grows in every round: in the least of some rounds.

    What is allocated once, or now and then, is no leak.
    """
    for _ in range(WARM_UP):
        call()
    least = (sys.maxsize,) * len(Usage._fields)
    before = Usage.now()
    for _ in range(ROUNDS):
        for _ in range(REPEATS):
            call()
        after = Usage.now()
        least = tuple(map(min, least, map(operator.sub, after, before)))
        before = after
    return Usage(*(max(0, number) for number in least))


@pytest.fixture(autouse=True)
def _quick_collections() -> Iterator[None]:
    """Leaves what other tests have left out of the collections here."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Members


BAD: list[Callable[[], object]] = [
    object,
    Unshowable,
    lambda: -1,
    lambda: 1 << 200,
    lambda: 10**5000,
    lambda: Index(-1),
    lambda: Index(1 << 64),
    lambda: 1.5,
    lambda: float("nan"),
    lambda: "text",
    lambda: "nul\0",
    lambda: b"",
    lambda: bytes(65532),
    lambda: bytearray(b"no IP packet"),
    lambda: memoryview(bytes(40))[::2],
    lambda: (1, 2, 3),
    lambda: (1, 1 << 16),
    lambda: (1 << 16, 1),
]


def misuses(objects: Objects, member: Member) -> Iterator[Callable[[], object]]:
    """Calls that must fail, for each reason that there is."""

    def call(arguments: dict[str, object]) -> Callable[[], object]:
        positional, named = member.arguments(arguments)
        return lambda: objects.call(member, *positional, **named)

    right = member.right()
    for parameter in member.parameters:
        name, takes = parameter.name, domain(parameter)
        for value in (make() for make in BAD):
            if takes.due(value) is not None:
                yield call(right | {name: value})
        if isinstance(right[name], bytes | bytearray):
            yield call(right | {name: exporter(b"buffer")})
        elif not callable(right[name]):
            yield call(right | {name: acting(name, right[name], fail)})
    for positional, named in bad_arities(member, right) if member.kind == "call" else ():
        yield lambda positional=positional, named=named: objects.call(member, *positional, **named)


def check_raises(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001 (which, is another test's)
        return
    raise AssertionError("it should have raised")


def use(members: list[Member]) -> None:
    """Each in every way that raises, and in one that works."""
    with real_objects() as objects:
        for member in members:
            for misuse in misuses(objects, member):
                check_raises(misuse)
            positional, named = member.arguments(member.right())
            with contextlib.suppress(OSError):  # without privileges
                close(objects.call(member, *positional, **named))
    for get_into, due in PREDICAMENTS.values():
        with real_objects() as objects:
            get_into(objects)
            for member in members:
                if due(member) is not None:
                    positional, named = member.arguments(member.right())
                    check_raises(lambda: objects.call(member, *positional, **named))


def group(member: Member) -> str:
    """Those that only read something are measured together."""
    reads = member.kind == "read" or member.name.startswith("get_") or "_name" in member.name
    return f"reading of {member.owner}" if reads else str(member)


GROUPS: dict[str, list[Member]] = {}
for _member in CORE:
    GROUPS.setdefault(group(_member), []).append(_member)


@pytest.mark.parametrize("members", GROUPS.values(), ids=GROUPS)
def test_member(members: list[Member]) -> None:
    """A public member leaks nothing: neither when it works nor on any of its errors' paths."""
    assert growth(lambda: use(members)) == NOTHING
