# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad callers: whatever a public member is given, a refusal says so and has changed nothing."""

import contextlib
import copy
import functools
import gc
import operator
import pickle
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, SupportsIndex

import pytest
from callers import (
    CLASSES,
    CORE,
    STUB,
    Acting,
    Due,
    Index,
    Member,
    Objects,
    Unshowable,
    domain,
    is_buffer,
    is_public,
    kept_packet,
)
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from played_kernel import PlayedKernel, SentVerdict
from queues import Packet
from test_fork import in_child

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext, constants

EXAMPLES = settings(
    max_examples=25,
    deadline=None,  # of a shared machine
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # shrinking shows the numbers, some of which nobody can
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)

# Values


INTEGERS = st.one_of(
    st.integers(),
    st.builds(
        lambda power, delta, sign: sign * (1 << power) + delta,
        st.sampled_from([7, 8, 15, 16, 20, 31, 32, 63, 64, 200]),
        st.integers(-1, 1),
        st.sampled_from([1, -1]),
    ),
    st.sampled_from([*nfq.Verdict, *nfq.CopyMode, *nfq.QueueFlag, *nfq.SkbInfo, *nfq.Hook]),
)
OTHERS = st.one_of(
    st.none(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.sampled_from(["\ud800", "a\0b", "/no/such/path"]),
    st.binary(max_size=80),
    st.lists(st.integers(), max_size=3),
    st.tuples(INTEGERS, INTEGERS),
    st.tuples(st.integers(), st.none() | st.floats() | st.text()),
    st.sampled_from([object(), object, nfq.open, nfq.NetfilterQueueData, nfq]),
)


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
VALUES = st.one_of(INTEGERS, st.builds(Index, INTEGERS.map(int)), OTHERS, st.sampled_from(SPECIALS))


# The played kernel's side


class Stage:
    """A handle with the test as its kernel, and a queue."""

    def __init__(self, kernel: PlayedKernel) -> None:
        self.kernel = kernel
        self._kept: list[Packet] = []
        self._queue = kernel.create_queue(1, self._kept.append)
        self._number = 0

    def objects(self) -> Objects:
        """With a packet that has no verdict yet."""
        self._number += 1
        return kept_packet(self.kernel.handle, self._queue, self._kept, self._number)

    def check_unharmed(self, objects: Objects, before: object) -> None:
        """Nothing has been sent or changed, and the packet can still have its verdict."""
        assert state(objects) == before
        assert self.kernel.received() == []
        objects.packet.accept()
        verdict = SentVerdict(1, objects.packet.id, nfq.NF_ACCEPT, batch=False)
        assert self.kernel.verdicts() == [verdict]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with PlayedKernel() as kernel:
        yield Stage(kernel)


def state(objects: Objects) -> tuple[object, ...]:
    """All that a call could have changed."""
    handle, queue, packet = objects
    return (
        handle.stats(),
        handle.closed,
        handle.autoflush,
        handle.on_held,
        handle.on_close,
        handle.on_verdict_error,
        handle.rcvbuf,
        queue.destroyed,
        queue.default_verdict,
        packet.verdict,
        packet.get_payload(),
    )


def error_of(call: Callable[[], object]) -> Exception:
    """What the call raises; a warning would be one too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Exception) as raised:  # noqa: PT011 (which, is checked by the caller)
            call()
    return raised.value


def tells(error: Exception, value: Any) -> bool:
    """Whether the message shows the value, or what is wrong with it."""
    message = str(error)
    if isinstance(error, TypeError):
        return type(value).__name__ in message or any(
            type(part).__name__ in message for part in value
        )
    if isinstance(value, SupportsIndex) and not isinstance(error, OSError):
        index = operator.index(value)
        return abs(index) >= 1 << 300 or str(index) in message or repr(value) in message
    return not isinstance(value, float) or repr(value) in message


PARAMETERS = [
    pytest.param(member, parameter.name, id=f"{member} {parameter.name}")
    for member in CORE
    for parameter in member.parameters
    if str(parameter.annotation) != "bool"  # whatever has a truth is one
]


@pytest.mark.parametrize(("member", "name"), PARAMETERS)
def test_bad_argument(stage: Stage, member: Member, name: str) -> None:
    """An argument of a wrong type or out of range: an error that names call and value.

    Nothing is sent, nothing has changed, and the packet is not lost.
    """
    (parameter,) = [each for each in member.parameters if each.name == name]

    @EXAMPLES
    @given(VALUES)
    def check(drawn: object) -> None:
        value = drawn.make() if isinstance(drawn, Special) else drawn
        due = domain(parameter).due(value)
        assume(due is not None)
        assert due is not None
        objects = stage.objects()
        before = state(objects)
        arguments = member.right() | {name: value}
        positional, named = member.arguments(arguments)
        error = error_of(lambda: objects.call(member, *positional, **named))
        message = str(error)
        assert isinstance(error, due), repr(error)
        assert member.name in message
        assert name in message or isinstance(error, OSError) or is_buffer(value)
        assert tells(error, value)
        assert len(message) < 300
        stage.check_unharmed(objects, before)

    check()


ARGUMENTS = [
    pytest.param(member, parameter.name, id=f"{member} {parameter.name}")
    for member in CORE
    for parameter in member.parameters
    if "Callable" not in str(parameter.annotation)  # nobody asks it for anything
]


def acting(name: str, right: Any, act: Callable[[], object]) -> Any:
    """The value as an object that does something when it is asked for it."""
    if name == "vlan":
        return tuple(Acting(value, act) for value in right)
    return Acting(right, act)


class ActionError(Exception):
    """What an argument raises."""


def fail() -> None:
    raise ActionError


def exporter(buffer: bytes) -> Any:
    """A buffer that can't be had; what there is for that depends on Python's version."""
    if sys.version_info < (3, 12):
        view = memoryview(buffer)
        view.release()
        return view

    class Exporter:
        def __buffer__(self, flags: int) -> memoryview:
            raise ActionError

    return Exporter()


@pytest.mark.parametrize(("member", "name"), ARGUMENTS)
def test_argument_that_raises(stage: Stage, member: Member, name: str) -> None:
    """What an argument's own methods raise comes out as it is, and nothing has changed."""
    objects = stage.objects()
    before = state(objects)
    arguments = member.right()
    if isinstance(arguments[name], bytes | bytearray):
        arguments[name] = exporter(b"buffer")
        due: type[Exception] = ActionError if sys.version_info >= (3, 12) else ValueError
    else:
        arguments[name] = acting(name, arguments[name], fail)
        due = ActionError
    positional, named = member.arguments(arguments)
    assert type(error_of(lambda: objects.call(member, *positional, **named))) is due
    stage.check_unharmed(objects, before)


ACTIONS: dict[str, Callable[[Objects], object]] = {
    "close": lambda on: on.handle.close(),
    "destroy": lambda on: on.queue.destroy(),
    "verdict": lambda on: None if on.packet.verdict is not None else on.packet.drop(),
    "batch": lambda on: on.queue.destroyed or on.queue.set_verdict_batch(nfq.NF_DROP, 1),
    "dispatch": lambda on: on.handle.closed or on.handle.process(),
    "collect": lambda on: gc.collect(0),
}


# What a buffer's methods could do they can't do before Python 3.12.
ACTORS = [each for each in ARGUMENTS if not is_buffer(each.values[0].right()[each.values[1]])]


@pytest.mark.parametrize(("member", "name"), ACTORS)
def test_argument_that_acts(member: Member, name: str) -> None:
    """Whatever an argument does when it is asked: the call says so or is right, and names itself.

    The packet has one verdict in the end, and no more.
    """
    for act in ACTIONS.values():
        with PlayedKernel() as kernel:
            objects = Stage(kernel).objects()
            arguments = member.right()
            arguments[name] = acting(name, arguments[name], functools.partial(act, objects))
            positional, named = member.arguments(arguments)
            with kernel.answering():
                try:
                    close(objects.call(member, *positional, **named))
                except (ValueError, nfq.VerdictError, OSError) as error:
                    assert member.name in str(error)
                with contextlib.suppress(ValueError, nfq.VerdictError):
                    objects.packet.accept()
                assert len(kernel.verdicts()) == 1


def test_stub_has_every_member() -> None:
    """What the tests know of the extension is all that is there."""
    assert {name for name in vars(_ext) if name in nfq.__all__} <= STUB.keys() | vars(
        constants
    ).keys()
    for name, cls in CLASSES.items():
        real = {member.name for member in CORE if member.owner == name}
        assert real == set(filter(is_public, dir(getattr(nfq, name))))


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


@pytest.mark.parametrize("member", [member for member in CORE if member.kind == "call"], ids=str)
def test_wrong_arity(stage: Stage, member: Member) -> None:
    """Missing, surplus, unknown and double arguments: TypeError that names the call."""
    objects = stage.objects()
    before = state(objects)
    for positional, named in bad_arities(member, member.right()):
        error = error_of(functools.partial(objects.call, member, *positional, **named))
        assert type(error) is TypeError
        assert member.name in str(error)
    stage.check_unharmed(objects, before)


def test_attributes(stage: Stage) -> None:
    """None can be deleted, only those can be set that say so, and no others be added."""
    objects = stage.objects()
    before = state(objects)
    writable = {(member.owner, member.name) for member in CORE if member.kind == "write"}
    for member in CORE:
        if member.kind == "read":
            subject = objects.subject(member)
            error = error_of(functools.partial(delattr, subject, member.name))
            assert isinstance(error, AttributeError | TypeError)
            assert member.name in str(error)
            if (member.owner, member.name) not in writable:
                error = error_of(functools.partial(setattr, subject, member.name, None))
                assert isinstance(error, AttributeError)
                assert member.name in str(error)
    for subject in objects:
        with pytest.raises(AttributeError, match="colour"):
            setattr(subject, "colour", 1)  # noqa: B010 (not for type checkers)
    stage.check_unharmed(objects, before)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_final(name: str, stage: Stage) -> None:
    """No class can be instantiated, subclassed or changed, and no object copied."""
    objects = stage.objects()
    before = state(objects)
    cls: Any = getattr(nfq, name)
    (subject,) = [each for each in objects if type(each) is cls]
    attempts: list[Callable[[], object]] = [
        cls,
        lambda: cls(subject),
        lambda: cls.__new__(cls),
        lambda: object.__new__(cls),
        lambda: type("Sub", (cls,), {}),
        lambda: setattr(cls, "colour", 1),
        lambda: setattr(subject, "__class__", object),
        lambda: copy.copy(subject),
        lambda: copy.deepcopy(subject),
        lambda: pickle.dumps(subject),
        lambda: weakref.ref(subject),
    ]
    for attempt in attempts:
        assert isinstance(error_of(attempt), TypeError)
    stage.check_unharmed(objects, before)


def test_foreign_self(stage: Stage) -> None:
    """A method that is called on an object of another class: TypeError that names it."""
    objects = stage.objects()
    before = state(objects)
    for member in CORE:
        for subject in (*objects, object()):
            if member.owner and type(subject).__name__ != member.owner:
                descriptor = vars(getattr(nfq, member.owner))[member.name]
                call = descriptor if member.kind == "call" else descriptor.__get__
                error = error_of(functools.partial(call, subject, int))
                assert type(error) is TypeError
                assert member.name in str(error)
    stage.check_unharmed(objects, before)


# Objects that are past it


GIVING = {"set_verdict", "accept", "drop", "repeat", "requeue"}
SOCKET = {"rcvbuf", "no_enobufs"}  # read from the descriptor
GETTERS = {member.name for member in CORE if member.name.startswith("get_")}


def due_closed(member: Member) -> Due:
    """A closed handle tells what it was, and nothing else works; its queues are destroyed."""
    if member.kind == "read":
        return ValueError if member.name in SOCKET else None
    harmless = {"", "close", "destroy", "stats", "__exit__"} | GETTERS
    return None if member.name in harmless or not member.owner else ValueError


def due_destroyed(member: Member) -> Due:
    """So does a destroyed queue, and its packets; its handle is as it was."""
    if member.owner == "NetfilterQueueQueueHandle":
        return due_closed(member)
    return ValueError if member.name in GIVING else None


def due_judged(member: Member) -> Due:
    """A packet has its verdict once."""
    return nfq.VerdictError if member.name in GIVING else None


def due_forked(member: Member) -> Due:
    """In a child a handle can be closed, and what is known without it be read."""
    if member.kind == "read":
        return RuntimeError if member.name in SOCKET | {"verdict"} else None
    closing = member.owner == "NetfilterQueueHandle" and member.name in ("close", "__exit__")
    return None if closing or member.name in GETTERS or not member.owner else RuntimeError


PREDICAMENTS: dict[str, tuple[Callable[[Objects], object], Callable[[Member], Due]]] = {
    "closed": (lambda on: on.handle.close(), due_closed),
    "destroyed": (lambda on: on.queue.destroy(), due_destroyed),
    "judged": (lambda on: on.packet.drop(), due_judged),
}


def check_due(objects: Objects, member: Member, due: Due) -> None:
    """The call with right arguments raises that, and names itself, or works if it is None."""
    positional, named = member.arguments(member.right())
    call = functools.partial(objects.call, member, *positional, **named)
    if due is None:
        close(call())
        return
    before = objects.handle.stats() if due is not RuntimeError else None
    error = error_of(call)
    assert type(error) is due, (str(member), error)
    assert {"__exit__": "destroy"}.get(member.name, member.name) in str(error)
    assert before is None or objects.handle.stats() == before


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


@pytest.mark.parametrize("name", PREDICAMENTS)
def test_predicament(name: str) -> None:
    """Members of what is closed, destroyed or judged raise what is due, and others work."""
    get_into, due = PREDICAMENTS[name]
    for member in CORE:
        with real_objects() as objects:
            get_into(objects)
            check_due(objects, member, due(member))


def test_forked() -> None:
    """In a child of fork everything that would touch the parent's handle is a RuntimeError."""

    def child() -> None:
        for member in sorted(CORE, key=lambda member: member.name in ("close", "__exit__")):
            check_due(objects, member, due_forked(member))

    with real_objects() as objects:
        assert in_child(child) == 0
        objects.packet.accept()
        assert objects.handle.stats().verdicts == 1
