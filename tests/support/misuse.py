# SPDX-License-Identifier: GPL-2.0-or-later
"""How calls can be wrong: their arguments, and the objects that they are made on."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from callers import CORE, Acting, Due, Index, Member, Objects, Unshowable, kept_packet
from queues import Packet

import libnetfilterqueue as nfq

# Values


class Special(NamedTuple):
    """A value that has to be new for each call, or is too large to be shown."""

    name: str
    make: Callable[[], object]


SPECIALS = [
    Special("huge", lambda: 10**5000),  # Python does not show it
    Special("huge and negative", lambda: -(10**5000)),
    Special("index that is huge", lambda: Index(10**5000)),
    Special("long text", lambda: "x" * 100_000),
    Special("65532 bytes", lambda: bytes(65_532)),
    Special("1 MiB", lambda: bytearray(1 << 20)),
    Special("part of a memoryview", lambda: memoryview(bytes(range(40)))[::2]),
    Special("bytes of no IP packet", lambda: bytearray(b"no IP packet")),
    Special("unshowable", Unshowable),
]


def acting(name: str, right: Any, act: Callable[[], object]) -> Any:
    """The value as an object that does something when it is asked for it."""
    if name == "vlan":
        return tuple(Acting(value, act) for value in right)
    if isinstance(right, Mapping):
        return ActingMapping(right, act)
    return Acting(right, act)


class ActingMapping(Mapping[str, object]):
    """A mapping that does something whenever it is read."""

    def __init__(self, right: Mapping[str, object], act: Callable[[], object]) -> None:
        self._right = right
        self._act = act

    def __getitem__(self, name: str) -> object:
        self._act()
        return self._right[name]

    def __iter__(self) -> Iterator[str]:
        self._act()
        return iter(self._right)

    def __len__(self) -> int:
        return len(self._right)


class ActionError(Exception):
    """What an argument raises."""


def fail() -> None:
    raise ActionError


class Exporter:
    """From Python 3.12 on, a buffer that can't be had."""

    def __buffer__(self, flags: int) -> memoryview:
        raise ActionError


def exporter(buffer: bytes) -> Any:
    """A buffer that can't be had; what there is for that depends on Python's version."""
    if sys.version_info >= (3, 12):
        return Exporter()
    view = memoryview(buffer)
    view.release()
    return view


# Arguments


def bad_arities(member: Member, right: dict[str, object]) -> Iterator[tuple[Any, Any]]:
    """Arguments of which one is missing, surplus, or there twice."""
    positional, named = member.arguments(right)
    yield positional, named | {"colour": None}
    if any(each.kind == each.VAR_POSITIONAL for each in member.signature.parameters.values()):
        return
    places = [each.name for each in member.parameters if each.kind != each.KEYWORD_ONLY]
    yield (*(right[name] for name in places), None), {}
    if positional:
        yield positional[:-1], named
        yield positional, named | {places[0]: right[places[0]]}


# Objects that are past it


GIVING = {"set_verdict", "accept", "drop", "repeat", "requeue"}
SOCKET = {"rcvbuf", "no_enobufs"}  # read from the descriptor
GETTERS = {member.name for member in CORE if member.name.startswith("get_")}


def due_closed(member: Member) -> Due:
    """A closed handle tells what it was, and nothing else works; its queues are destroyed."""
    if member.kind == "read":
        return nfq.ClosedError if member.name in SOCKET | {"callback"} else None
    harmless = {"", "close", "destroy", "stats", "__exit__"} | GETTERS
    return None if member.name in harmless or not member.owner else nfq.ClosedError


def due_destroyed(member: Member) -> Due:
    """So does a destroyed queue, and its packets; its handle is as it was."""
    if member.owner == "NetfilterQueueQueueHandle":
        return due_closed(member)
    return nfq.ClosedError if member.name in GIVING else None


def due_judged(member: Member) -> Due:
    """A packet has its verdict once."""
    return nfq.VerdictError if member.name in GIVING else None


def due_forked(member: Member) -> Due:
    """In a child a handle can be closed, and what is known without it be read."""
    if member.kind == "read":
        return RuntimeError if member.name in SOCKET | {"callback", "verdict"} else None
    closing = member.owner == "NetfilterQueueHandle" and member.name in ("close", "__exit__")
    return None if closing or member.name in GETTERS or not member.owner else RuntimeError


PREDICAMENTS: dict[str, tuple[Callable[[Objects], object], Callable[[Member], Due]]] = {
    "closed": (lambda on: on.handle.close(), due_closed),
    "destroyed": (lambda on: on.queue.destroy(), due_destroyed),
    "judged": (lambda on: on.packet.drop(), due_judged),
}


def close(result: object) -> None:
    """What a call has opened."""
    if isinstance(result, nfq.NetfilterQueueHandle):
        result.close()


@contextlib.contextmanager
def real_objects() -> Iterator[Objects]:
    """On the kernel's own socket, though the packet is not the kernel's."""
    kept: list[Packet] = []
    with nfq.open() as handle:
        queue = handle.create_queue(1, kept.append)
        yield kept_packet(handle, queue, kept, 1)
