# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad callers: whatever a public member is given, a refusal says so and has changed nothing."""

import operator
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, SupportsIndex

import pytest
from callers import (
    CORE,
    Index,
    Member,
    Objects,
    Unshowable,
    domain,
    is_buffer,
    kept_packet,
)
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from played_kernel import PlayedKernel, SentVerdict
from queues import Packet

import libnetfilterqueue as nfq

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
        arguments = objects.right(member) | {name: value}
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
