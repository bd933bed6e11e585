# SPDX-License-Identifier: GPL-2.0-or-later
"""The public members of the package by their signatures, and what is due for each argument.

Nothing here lists calls: a member that is added is in it. A parameter whose name or annotation says
nothing about its range yet is a KeyError.
"""

import __future__

import ast
import asyncio
import inspect
import math
import operator
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex, cast

import trio
from available import GEVENT
from played_kernel import NFQA_L2HDR, NLMSG_NOOP, attribute, message, packet_message
from queues import Handle, Packet, Queue

import libnetfilterqueue as nfq
import libnetfilterqueue.trio
from libnetfilterqueue import _packets, aio

# By the second part of their names; the one without a loop has no public module of its own.
ADAPTERS: dict[str, ModuleType] = {
    "_packets": _packets,
    "aio": aio,
    "trio": libnetfilterqueue.trio,
}
if GEVENT:
    from libnetfilterqueue import green

    ADAPTERS["green"] = green

U16, U32, INT_MAX = (1 << 16) - 1, (1 << 32) - 1, (1 << 31) - 1
L2_HEADER = bytes(range(14))

# Members


class Member(NamedTuple):
    """A function, a method, or an attribute that is read or set."""

    owner: str  # a class, or "" for a function
    name: str
    kind: str  # "call", "read" or "write"
    signature: inspect.Signature

    @property
    def parameters(self) -> list[inspect.Parameter]:
        return [
            parameter
            for parameter in self.signature.parameters.values()
            if parameter.kind != parameter.VAR_POSITIONAL
        ]

    def __str__(self) -> str:
        return f"{self.owner}.{self.name} {self.kind}".lstrip(".")

    def call(self, subject: object, *args: object, **kwargs: object) -> object:
        """Calls it on its subject: an object of its class, or the module."""
        if self.kind == "read":
            return getattr(subject, self.name)
        if self.kind == "write":
            setattr(subject, self.name, *args)
            return None
        result = getattr(subject, self.name)(*args, **kwargs)
        if self.name == "detach" and isinstance(result, int):  # a descriptor, and the caller's
            os.close(result)
        return result

    def right(self) -> dict[str, object]:
        """Arguments that it takes, all of them."""
        return {parameter.name: domain(parameter).right() for parameter in self.parameters}

    def arguments(
        self, values: Mapping[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """How the values are passed: those that are required by their positions."""
        positional = [
            parameter
            for parameter in self.parameters
            if parameter.kind != parameter.KEYWORD_ONLY and parameter.name in values
        ]
        by_position = [
            values[parameter.name] for parameter in positional if parameter.default is _NONE
        ]
        by_name = {
            parameter.name: values[parameter.name]
            for parameter in self.parameters
            if parameter.name in values and parameter.default is not _NONE
        }
        return tuple(by_position), by_name


_NONE = inspect.Parameter.empty


def _attribute(annotation: str, name: str) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_ONLY
    return inspect.Signature([inspect.Parameter(name, kind, annotation=annotation)])


def _signature(function: Callable[..., object], bound: bool) -> inspect.Signature:
    """With annotations as text, and without `self`."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.formatannotation(parameter.annotation).strip("'"))
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters[1:] if bound else parameters)


def is_public(name: str) -> bool:
    """Whether users are meant to use a name of the package."""
    return not name.startswith("_") or name in PROTOCOL


PROTOCOL = {
    f"__{name}__" for name in ("enter", "exit", "aenter", "aexit", "iter", "aiter", "anext")
}


def members_of_class(cls: type) -> Iterator[Member]:
    """What a class and its bases in the package have."""
    for name in filter(is_public, dir(cls)):
        value = inspect.getattr_static(cls, name)
        if isinstance(value, property):
            yield Member(cls.__name__, name, "read", inspect.Signature())
            if value.fset is not None:
                setter = _signature(value.fset, bound=True)
                (parameter,) = setter.parameters.values()
                yield Member(cls.__name__, name, "write", _attribute(parameter.annotation, name))
        else:
            yield Member(cls.__name__, name, "call", _signature(value, bound=True))
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        yield Member(cls.__name__, name, "read", inspect.Signature())
        yield Member(cls.__name__, name, "write", _attribute(annotation, name))


def _stub() -> dict[str, Any]:
    """The extension's stub, executed: what it declares, by name."""
    path = Path(nfq.__file__).with_name("_ext.pyi")
    tree = ast.parse(path.read_text())
    tree.body = [  # what exists for type checkers only
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and node.module == "_typeshed")
    ]
    flags = __future__.annotations.compiler_flag
    names: dict[str, Any] = {"__name__": "stub"}
    exec(compile(tree, path, "exec", flags=flags, dont_inherit=True), names)
    return {
        name: value
        for name, value in names.items()
        if getattr(value, "__module__", None) == "stub" and is_public(name)
    }


STUB = _stub()
CLASSES = {name: value for name, value in STUB.items() if name.startswith("NetfilterQueue")}


def _core_members() -> Iterator[Member]:
    for name, value in STUB.items():
        if name in CLASSES:
            yield from members_of_class(value)
        elif inspect.isfunction(value):
            yield Member("", name, "call", _signature(value, bound=False))


CORE = list(_core_members())


def adapter_members(adapter: ModuleType) -> Iterator[Member]:
    """The functions and methods of an adapter."""
    for name in adapter.__all__:
        value = getattr(adapter, name)
        if name in ("Attachment", "PacketStream"):  # made by functions
            yield from members_of_class(value)
        else:
            yield Member("", name, "call", _signature(value, bound=False))


# Objects


class Objects(NamedTuple):
    """What members are called on."""

    handle: Handle
    queue: Queue
    packet: Packet

    def subject(self, member: Member) -> object:
        """What this member is called on."""
        subjects: dict[str, object] = {
            "": nfq,
            "NetfilterQueueHandle": self.handle,
            "NetfilterQueueQueueHandle": self.queue,
            "NetfilterQueueData": self.packet,
        }
        return subjects[member.owner]

    def call(self, member: Member, *args: object, **kwargs: object) -> object:
        return member.call(self.subject(member), *args, **kwargs)


def kept_packet(handle: Handle, queue: Queue, kept: list[Packet], number: int) -> Objects:
    """A packet of the queue, whose callback puts it into `kept`."""
    header = attribute(NFQA_L2HDR, L2_HEADER)
    handle.handle_packet(packet_message(number, b"payload", header, number=queue.number))
    return Objects(handle, queue, kept.pop())


# What is due


class Unshowable:
    """Has no repr."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


class Index:
    """Is an int where one is asked for."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


class Acting:
    """Is whatever it is asked for: the value, once it has done something."""

    def __init__(self, value: Any, act: Callable[[], object]) -> None:
        self._value = value
        self._act = act

    def __index__(self) -> int:
        self._act()
        return int(self._value)

    def __bool__(self) -> bool:
        self._act()
        return bool(self._value)

    def __fspath__(self) -> str:
        self._act()
        return "/no/such/path"

    def fileno(self) -> int:
        """An open descriptor."""
        self._act()
        return 0


Due = type[Exception] | tuple[type[Exception], ...] | None


class Domain(NamedTuple):
    """What a parameter takes: a value that it does, and what is due for any other."""

    right: Callable[[], object]
    due: Callable[[Any], Due]


def number(lowest: int, highest: int, right: int | None = None) -> Domain:
    def due(value: object) -> Due:
        if not isinstance(value, SupportsIndex):
            return TypeError
        return None if lowest <= operator.index(value) <= highest else ValueError

    return Domain(lambda: lowest if right is None else right, due)


def _verdict_due(value: object) -> Due:
    if not isinstance(value, SupportsIndex):
        return TypeError
    index = operator.index(value)
    with_queue = index & ~(U16 << 16 | 0x8000) == nfq.NF_QUEUE
    return None if 0 <= index <= nfq.NF_STOP or (0 < index <= U32 and with_queue) else ValueError


VERDICT = Domain(lambda: nfq.NF_ACCEPT, _verdict_due)

NUMBERS = {
    "family": number(0, 255, int(socket.AF_INET)),
    "number": number(0, U16, 9),
    "mode": number(0, nfq.NFQNL_COPY_PACKET),
    "range": number(0, U32),
    "maxlen": number(0, U32),
    "queuelen": number(0, U32),
    "flags": number(0, U32),
    "mask": number(0, U32),
    "mark": number(0, U32),
    "priority": number(0, U32),
    "ct_mark": number(0, U32),
    "up_to_id": number(0, U32),
    "skb_info": number(0, U32),
    "max_packets": number(1, (1 << 63) - 1),
    "rcvbuf": number(0, INT_MAX, 1 << 16),
    "verdict": VERDICT,
    "default_verdict": VERDICT,
    "unanswered": VERDICT,
    # The adapters'
    "limit": number(1, 1 << 300),
    "max": number(1, 1 << 300),
    "concurrency": number(1, 1 << 300),
}


def is_buffer(value: object) -> bool:
    """Whether it has the buffer protocol."""
    try:
        memoryview(cast("bytes", value)).release()
    except TypeError:
        return False
    return True


def sized_buffer(least: int, most: int, right: bytes) -> Domain:
    def due(value: Any) -> Due:
        if not is_buffer(value):
            return TypeError
        return None if least <= memoryview(value).nbytes <= most else ValueError

    return Domain(lambda: right, due)


NOOP = message(NLMSG_NOOP)
IP_PACKET = bytes.fromhex("4500001400000000403b00000a0000010a000002")


def _message_due(value: Any) -> Due:
    if not is_buffer(value):
        return TypeError
    if not memoryview(value).c_contiguous:
        return BufferError
    return None if bytes(value) == NOOP else nfq.MalformedMessageError


def _writable_due(value: Any) -> Due:
    if not is_buffer(value):
        return TypeError
    view = memoryview(value)
    if view.readonly or not view.c_contiguous:
        return TypeError
    return None if bytes(view[:1]) in (b"E", b"`") else ValueError


BUFFERS = {
    "payload": sized_buffer(1, 65531, b"payload"),
    "ct_labels": sized_buffer(1, 16, b"\1"),
    "l2_header": sized_buffer(14, 14, L2_HEADER),
}


EXPECTED = {"dst": "10.0.0.2", "proto": socket.IPPROTO_TCP, "dport": 2000}


def _expectation_due(value: object) -> Due:
    if isinstance(value, Mapping):
        return None if value == {"expected": EXPECTED} else (TypeError, ValueError)
    return ValueError if is_buffer(value) else TypeError  # no bytes of others are attributes


def _vlan_due(value: object) -> Due:
    if not isinstance(value, tuple) or len(value) != 2:
        return TypeError
    first, second = map(number(0, U16).due, value)
    return first or second


def _timeout_due(value: Any) -> Due:
    if not isinstance(value, SupportsFloat | SupportsIndex):
        return TypeError
    try:
        seconds = float(value)
    except ValueError:
        return TypeError  # text
    except OverflowError:
        return ValueError
    return ValueError if math.isnan(seconds) or seconds < 0 else None


def ignore(*_: object) -> None:
    """A callback or hook that does nothing."""


def _callable_due(value: object) -> Due:
    return None if callable(value) else TypeError


FREE_DESCRIPTOR = 1 << 20  # more than a process has


def _descriptor_due(value: object) -> Due:
    if isinstance(value, int):
        return OSError if FREE_DESCRIPTOR < value <= INT_MAX else (ValueError, OSError)
    return None if hasattr(value, "fileno") else TypeError


def _netns_due(value: object) -> Due:
    if isinstance(value, str | bytes | os.PathLike):
        return (ValueError, OSError)
    return OSError if hasattr(value, "fileno") else _descriptor_due(value)


def _instance(kind: type) -> Domain:
    return Domain(lambda: None, lambda value: None if isinstance(value, kind) else TypeError)


# By the beginnings of annotations, without None.
KINDS: dict[str, Callable[[str], Domain]] = {
    "SupportsIndex": NUMBERS.__getitem__,
    "int": NUMBERS.__getitem__,
    "bool": lambda _: Domain(lambda: True, lambda _: None),
    "Callable": lambda _: Domain(lambda: ignore, _callable_due),
    "ReadableBuffer": lambda name: (
        BUFFERS[name] if name in BUFFERS else Domain(lambda: NOOP, _message_due)
    ),
    "ReadableBuffer | Mapping": lambda _: Domain(lambda: {"expected": EXPECTED}, _expectation_due),
    "WriteableBuffer": lambda _: Domain(lambda: bytearray(IP_PACKET), _writable_due),
    "tuple[SupportsIndex, SupportsIndex]": lambda _: Domain(lambda: (0x8100, 5), _vlan_due),
    "_Float": lambda _: Domain(lambda: 0, _timeout_due),
    "StrOrBytesPath": lambda _: Domain(lambda: None, _netns_due),
    "FileDescriptorLike": lambda _: Domain(lambda: None, _descriptor_due),
    # The adapters'; the tests have the right ones.
    "str | bytes | os.PathLike": lambda _: Domain(lambda: None, _netns_due),
    "libnetfilterqueue.NetfilterQueueHandle": lambda _: _instance(nfq.NetfilterQueueHandle),
    "asyncio.events.AbstractEventLoop": lambda _: _instance(asyncio.AbstractEventLoop),
    "libnetfilterqueue.aio._packets.PacketStream": lambda _: _instance(aio.PacketStream),
    "libnetfilterqueue.green._packets.PacketStream": lambda _: _instance(
        ADAPTERS["green"].PacketStream
    ),
    "libnetfilterqueue.trio._packets.PacketStream": lambda _: _instance(
        ADAPTERS["trio"].PacketStream
    ),
    "trio.Nursery": lambda _: _instance(trio.Nursery),
    "float": lambda _: Domain(lambda: 0, _timeout_due),
    "collections.abc.Callable": lambda _: Domain(lambda: ignore, _callable_due),
    "object": lambda _: Domain(lambda: None, lambda _: None),
}


def domain(parameter: inspect.Parameter) -> Domain:
    """What a parameter takes. Where the annotation says so, it takes None too."""
    annotation = str(parameter.annotation)
    kind = max((kind for kind in KINDS if annotation.startswith(kind)), key=len)
    found = KINDS[kind](parameter.name)
    if "None" not in annotation.split(" | "):
        return found
    return Domain(found.right, lambda value: None if value is None else found.due(value))
