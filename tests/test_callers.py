# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad callers: whatever a public member is given, a refusal says so and has changed nothing."""

import asyncio
import contextlib
import copy
import functools
import operator
import pickle
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex

import pytest
import trio
from available import GEVENT
from callers import (
    ADAPTERS,
    CLASSES,
    CORE,
    STUB,
    Due,
    Index,
    Member,
    Objects,
    adapter_members,
    domain,
    ignore,
    is_buffer,
    is_public,
    kept_packet,
)
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from misuse import (
    PREDICAMENTS,
    SPECIALS,
    ActionError,
    Special,
    acting,
    bad_arities,
    close,
    due_forked,
    exporter,
    fail,
    real_objects,
)
from played_kernel import PlayedKernel, SentVerdict
from queues import Handle, Packet
from test_fork import in_child

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext, aio, constants
from libnetfilterqueue.trio import open_queue as open_trio_queue

if GEVENT:
    from libnetfilterqueue import green

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
    """An argument of a wrong type or out of range is an error that names call and value.

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
    (member, parameter.name)
    for member in CORE
    for parameter in member.parameters
    if "Callable" not in str(parameter.annotation)  # nobody asks it for anything
]


@pytest.mark.parametrize(("member", "name"), ARGUMENTS, ids=str)
def test_argument_that_raises(stage: Stage, member: Member, name: str) -> None:
    """Exceptions of an argument's own methods come out as they are, and nothing has changed."""
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


def batch(objects: Objects) -> None:
    if not objects.queue.destroyed:
        objects.queue.set_verdict_batch(nfq.NF_DROP, 1)


ACTIONS: dict[str, Callable[[Objects], object]] = {
    "close": lambda on: on.handle.close(),
    "destroy": lambda on: on.queue.destroy(),
    "verdict": lambda on: None if on.packet.verdict is not None else on.packet.drop(),
    "batch": batch,
    "dispatch": lambda on: on.handle.closed or on.handle.process(),
}


def refusal(call: Callable[[], object]) -> str | None:
    """What the call says if it is refused."""
    try:
        close(call())
    except (ValueError, nfq.VerdictError, OSError) as error:
        return str(error)
    return None


# What a buffer's methods could do they can't do before Python 3.12. close() sends one verdict more,
# for whatever else waits.
ACTORS = [
    (member, name)
    for member, name in ARGUMENTS
    if not is_buffer(member.right()[name]) and member.name != "close"
]


@pytest.mark.parametrize(("member", "name"), ACTORS, ids=str)
def test_argument_that_acts(member: Member, name: str) -> None:
    """Whatever an argument does when it is read, the call reports it or is right, and names itself.

    The packet has one verdict in the end, and no more.
    """
    for act in ACTIONS.values():
        with PlayedKernel() as kernel:
            objects = Stage(kernel).objects()
            arguments = member.right()
            arguments[name] = acting(name, arguments[name], functools.partial(act, objects))
            positional, named = member.arguments(arguments)
            call = functools.partial(objects.call, member, *positional, **named)
            with kernel.answering():
                message = refusal(call)
                with contextlib.suppress(ValueError, nfq.VerdictError):
                    objects.packet.accept()
            assert message is None or member.name in message
            assert len(kernel.verdicts()) == 1


def test_stub_has_every_member() -> None:
    """The tests know every member of the extension."""
    known = STUB.keys() | vars(constants).keys() | {"__version__"}
    assert {name for name in vars(_ext) if name in nfq.__all__} <= known
    for name in CLASSES:
        real = {member.name for member in CORE if member.owner == name}
        assert real == set(filter(is_public, dir(getattr(nfq, name))))


@pytest.mark.parametrize("member", [member for member in CORE if member.kind == "call"], ids=str)
def test_wrong_arity(stage: Stage, member: Member) -> None:
    """Missing, surplus, unknown and double arguments are a TypeError that names the call."""
    objects = stage.objects()
    before = state(objects)
    for positional, named in bad_arities(member, member.right()):
        error = error_of(functools.partial(objects.call, member, *positional, **named))
        assert type(error) is TypeError
        assert member.name in str(error)
    stage.check_unharmed(objects, before)


class Name(str):
    """A keyword's name that is a str all the same."""

    __slots__ = ()


@pytest.mark.parametrize("name", ["t", "timeou", "timeouts", "timeout\0", "tímeout", "Timeout", ""])
def test_unknown_keyword(handle: Handle, name: str) -> None:
    """Only the whole name of a parameter names it."""
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{name}'"):
        handle.process(**{name: 0})


@pytest.mark.parametrize("name", ["timeout", Name("timeout"), "".join(["time", "out"])])
def test_known_keyword(handle: Handle, name: str) -> None:
    """Any str of the name's letters does."""
    assert handle.process(**{name: 0}) == 0


def test_attributes(stage: Stage) -> None:
    """No attribute can be deleted or added; only those can be set that say so."""
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
    """A method that is called on an object of another class is a TypeError that names it."""
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


@pytest.mark.parametrize("name", PREDICAMENTS)
def test_predicament(name: str) -> None:
    """Members of what is closed, destroyed or judged raise what is due, and others work."""
    get_into, due = PREDICAMENTS[name]
    for member in CORE:
        with real_objects() as objects:
            get_into(objects)
            check_due(objects, member, due(member))


def test_forked() -> None:
    """In a child of fork every call that would touch the parent's handle is a RuntimeError."""

    def child() -> None:
        for member in sorted(CORE, key=lambda member: member.name in ("close", "__exit__")):
            check_due(objects, member, due_forked(member))

    with real_objects() as objects:
        assert in_child(child) == 0
        objects.packet.accept()
        assert objects.handle.stats().verdicts == 1


# The adapters


ADAPTER_PARAMETERS = [
    pytest.param(name, member, parameter.name, id=f"{name}.{member} {parameter.name}")
    for name, adapter in ADAPTERS.items()
    for member in adapter_members(adapter)
    for parameter in member.parameters
]


async def ignore_later(*_: object) -> None:
    """A handler for asyncio and trio that does nothing."""


HANDLERS = {"aio": ignore_later, "green": ignore, "trio": ignore_later}


def call_adapter(member: Member, handle: Handle, stream: Any, changed: dict[str, object]) -> Any:
    """Calls it on the stream, or the stream's module, with one argument changed."""
    adapter = type(stream).__module__.split(".")[1]
    subject = stream if member.owner else ADAPTERS[adapter]
    right = {"handle": handle, "stream": stream, "limit": 1024, "handler": HANDLERS.get(adapter)}
    if member.name == "open_queue":
        right["handle"] = None  # the stream would close it
    arguments = {name: right.get(name, value) for name, value in member.right().items()}
    positional, named = member.arguments(arguments | changed)
    return member.call(subject, *positional, **named)


def check_free(handle: Handle, stream: Any) -> None:
    """Nothing has been attached, nor has anything been closed."""
    assert (handle.on_held, handle.on_close, handle.autoflush) == (None, None, True)
    assert not handle.closed
    assert not stream.closed


def in_asyncio(member: Member, changed: dict[str, object]) -> None:
    async def body() -> None:
        with nfq.open() as handle:
            async with aio.open_queue(1) as stream:
                try:
                    result = call_adapter(member, handle, stream, changed)
                    if isinstance(result, aio.PacketStream):
                        await result.__aenter__()
                    else:
                        await result
                finally:
                    check_free(handle, stream)

    asyncio.run(body())


def in_gevent(member: Member, changed: dict[str, object]) -> None:
    with nfq.open() as handle, green.open_queue(1) as stream:
        try:
            result = call_adapter(member, handle, stream, changed)
            if isinstance(result, green.PacketStream):
                result.__enter__()
        finally:
            check_free(handle, stream)


def in_trio(member: Member, changed: dict[str, object]) -> None:
    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nurseries = {"nursery": nursery} if member.name == "attach" else {}
            with nfq.open() as handle:
                async with open_trio_queue(1) as stream:
                    try:
                        result = call_adapter(member, handle, stream, nurseries | changed)
                        if isinstance(result, type(stream)):
                            await result.__aenter__()
                        else:
                            await result
                    except Exception as error:  # noqa: BLE001 (the nursery would put it in a group)
                        raised.append(error)
                    finally:
                        check_free(handle, stream)

    raised: list[Exception] = []
    trio.run(body)
    for error in raised:
        raise error


def without_a_loop(member: Member, changed: dict[str, object]) -> None:
    with nfq.open() as handle, nfq.open_queue(1) as stream:
        result = call_adapter(member, handle, stream, changed)
        if isinstance(result, nfq.PacketStream):
            result.__enter__()


CALLS = {"_packets": without_a_loop, "aio": in_asyncio, "green": in_gevent, "trio": in_trio}


@pytest.mark.parametrize(("adapter", "member", "name"), ADAPTER_PARAMETERS)
def test_bad_argument_of_adapter(adapter: str, member: Member, name: str) -> None:
    """An adapter's call refuses a bad argument as the core does; nothing is attached or bound."""
    (parameter,) = [each for each in member.parameters if each.name == name]

    @settings(EXAMPLES, max_examples=10)
    @given(VALUES)
    def check(drawn: object) -> None:
        value = drawn.make() if isinstance(drawn, Special) else drawn
        due = domain(parameter).due(value)
        assume(due is not None)
        assert due is not None
        error = error_of(lambda: CALLS[adapter](member, {name: value}))
        assert isinstance(error, due), repr(error)
        assert name in str(error)
        assert tells(error, value)
        assert len(str(error)) < 300

    check()
    with nfq.open() as handle:
        handle.create_queue(9, ignore)


@pytest.mark.parametrize("adapter", [name for name in ADAPTERS if name != "_packets"])
def test_attach_closed_handle(adapter: str) -> None:
    """A closed handle can't be attached, says the call itself."""
    handle = nfq.open()
    handle.close()
    member = next(each for each in adapter_members(ADAPTERS[adapter]) if each.name == "attach")
    error = error_of(lambda: CALLS[adapter](member, {"handle": handle}))
    assert type(error) is nfq.ClosedError
    assert str(error) == "attach(): the handle is closed"
