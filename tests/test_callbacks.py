# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be a callback, what it may return, and that it can be replaced."""

import asyncio
import functools
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from queues import Handle, Packet, accept

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel


@pytest.fixture
def handle(nfqueue: FakeKernel) -> Iterator[Handle]:
    """A handle on the fake kernel."""
    assert nfqueue.queues == {}
    with nfq.open() as handle:
        yield handle


async def coroutine(packet: Packet) -> None:
    packet.accept()


async def async_generator(packet: Packet) -> AsyncIterator[None]:
    packet.accept()
    yield


def generator(packet: Packet) -> Iterator[None]:
    packet.accept()
    yield


class Callables:
    """Callables of other kinds."""

    async def __call__(self, packet: Packet) -> None:
        packet.accept()

    async def method(self, packet: Packet) -> None:
        packet.accept()

    @classmethod
    async def of_class(cls, packet: Packet) -> None:
        packet.accept()

    @staticmethod
    async def static(packet: Packet) -> None:
        packet.accept()


class Partial:
    """An object whose `__call__` is a functools.partial."""

    __call__ = functools.partial(coroutine)


REFUSED: dict[str, object] = {
    "coroutine function": coroutine,
    "async generator function": async_generator,
    "generator function": generator,
    "partial": functools.partial(coroutine),
    "partial of a partial's method": functools.partial(functools.partial(Callables().method)),
    "object": Callables(),
    "partial of an object": functools.partial(Callables()),
    "method": Callables().method,
    "class method": Callables.of_class,
    "static method": Callables.static,
    "object with a partial": Partial(),
    "bound __call__": Callables().__call__,
}

TAKEN: dict[str, Callable[[Any], None]] = {
    "function": accept,
    "method of C": Packet.accept,
    "lambda": lambda packet: packet.accept(),
    "partial": functools.partial(accept),
    "class": type("Class", (), {"__init__": lambda _, packet: packet.accept()}),
    "object": type("Callable", (), {"__call__": lambda _, packet: packet.accept()})(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(handle: Handle, kind: str) -> None:
    """A callback that would do nothing when it is called is a TypeError, wherever it is named."""
    function: Any = REFUSED[kind]
    with pytest.raises(TypeError, match=r"create_queue\(\): callback is called and not awaited"):
        handle.create_queue(1, function)
    queue = handle.create_queue(1, accept)
    with pytest.raises(TypeError, match=r"^callback is called and not awaited"):
        queue.callback = function
    assert queue.callback is accept
    for name in ("on_held", "on_unsent", "on_close", "on_verdict_error"):
        with pytest.raises(TypeError, match=f"^{name} is called and not awaited"):
            setattr(handle, name, function)
        assert getattr(handle, name) is None


@pytest.mark.parametrize("kind", TAKEN)
def test_taken(nfqueue: FakeKernel, handle: Handle, kind: str) -> None:
    """Every other callable is called."""
    handle.create_queue(1, TAKEN[kind])
    packet = nfqueue.enqueue(b"data")
    handle.process()
    assert packet.passed


@pytest.mark.parametrize("value", [None, 1, "accept"])
def test_not_callable(handle: Handle, value: Any) -> None:
    """A callback that can't be called is a TypeError."""
    with pytest.raises(TypeError, match=r"create_queue\(\): callback must be callable"):
        handle.create_queue(1, value)
    queue = handle.create_queue(1, accept)
    with pytest.raises(TypeError, match=r"^callback must be callable"):
        queue.callback = value
    with pytest.raises(TypeError, match="callback can't be deleted"):
        del queue.callback


def test_call_that_can_not_be_looked_at(handle: Handle) -> None:
    """An exception while looking for the callback's function comes out of the call."""

    class Unseen(functools.partial[None]):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("no look")

    callback = Unseen(accept)
    with pytest.raises(RuntimeError, match="no look"):
        handle.create_queue(1, callback)


class Awaitable:
    """What has no `close`, and no `cancel` either."""

    def __await__(self) -> Generator[None, None, None]:
        yield


RETURNED: dict[str, Callable[[Packet], object]] = {
    "coroutine": coroutine,
    "async generator": async_generator,
    "awaitable": lambda _: Awaitable(),
}


@pytest.mark.parametrize("kind", RETURNED)
@pytest.mark.parametrize("given", [False, True])
def test_returned(nfqueue: FakeKernel, handle: Handle, kind: str, given: bool) -> None:
    """An awaitable is an error, of which nothing is left: no warning, and no packet that waits.

    A verdict that was set stands, as where a callback raises, and the rest is dispatched.
    """

    def callback(packet: Packet) -> Any:
        if given or packet.id == 2:
            packet.accept()
        return RETURNED[kind](packet) if packet.id == 1 else None

    handle.create_queue(1, callback)
    packets = nfqueue.enqueue_all([b"1", b"2"])
    with pytest.raises(TypeError, match="the callback returned an awaitable, "):
        handle.process()
    gc.collect()
    assert [packet.passed for packet in packets] == [given, True]


def test_returned_coroutine_is_closed(nfqueue: FakeKernel, handle: Handle) -> None:
    """A returned coroutine that has begun is closed, and what that raises is reported."""
    raised: list[BaseException | None] = []

    async def begun() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            raise ZeroDivisionError

    def callback(_: Packet) -> Any:
        running = begun()
        running.send(None)
        return running

    handle.create_queue(1, callback)
    packet = nfqueue.enqueue(b"data")
    hook = sys.unraisablehook
    sys.unraisablehook = lambda report: raised.append(report.exc_value)
    try:
        with pytest.raises(TypeError, match="the callback returned an awaitable, coroutine"):
            handle.process()
    finally:
        sys.unraisablehook = hook
    assert list(map(type, raised)) == [ZeroDivisionError]
    assert not packet.passed


def test_returned_task_is_cancelled(nfqueue: FakeKernel, handle: Handle) -> None:
    """A returned task has no close(): it is cancelled, and so gives no verdict later."""

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []

        def callback(packet: Packet) -> Any:
            tasks.append(asyncio.create_task(coroutine(packet)))
            return tasks[0]

        handle.create_queue(1, callback)
        packet = nfqueue.enqueue(b"data")
        with pytest.raises(TypeError, match=r"the callback returned an awaitable, .*Task"):
            handle.process()
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        assert not packet.passed

    asyncio.run(main())


def test_other_results(nfqueue: FakeKernel, handle: Handle) -> None:
    """Other results of a callback are released, a packet too."""
    results: list[object] = [None, 1, "text", iter(()), object()]

    def callback(packet: Packet) -> Any:
        packet.accept()
        return results[packet.id] if packet.id < len(results) else packet

    handle.create_queue(1, callback)
    packets = nfqueue.enqueue_all([b"data"] * 6)
    handle.process()
    assert all(packet.passed for packet in packets)


def test_replaced(nfqueue: FakeKernel, handle: Handle) -> None:
    """A new callback is called from the next packet on, also when the running one names it."""
    seen: list[tuple[str, int]] = []

    def second(packet: Packet) -> None:
        seen.append(("second", packet.id))

    def first(packet: Packet) -> None:
        seen.append(("first", packet.id))
        if packet.id == 2:
            packet.queue.callback = second

    queue = handle.create_queue(1, first)
    assert queue.callback is first
    nfqueue.enqueue_all([b"data"] * 3)
    handle.process()
    assert seen == [("first", 1), ("first", 2), ("second", 3)]
    assert queue.callback is second


def test_replaced_one_is_let_go(handle: Handle) -> None:
    """A queue holds its callback only as long as it has it."""

    def let_go() -> weakref.ref[Any]:
        def first(packet: Packet) -> None:
            packet.accept()

        queue.callback = first
        return weakref.ref(first)

    queue = handle.create_queue(1, accept)
    gone = let_go()
    gc.collect()
    assert gone() is queue.callback
    queue.callback = accept
    gc.collect()
    assert gone() is None
    gone = let_go()
    queue.destroy()
    gc.collect()
    assert gone() is None
    with pytest.raises(nfq.ClosedError, match="callback: queue 1 is destroyed"):
        queue.callback  # noqa: B018
