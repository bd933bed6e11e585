# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing leaks: no reference, no memory, no descriptor, however often and wrongly one calls."""

import asyncio
import contextlib
import ctypes
import functools
import gc
import operator
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import pytest
import trio
from available import GEVENT
from callers import CORE, Index, Member, Objects, Unshowable, domain
from misuse import PREDICAMENTS, acting, bad_arities, close, exporter, fail, real_objects
from netns import TIMEOUT, Namespace, UdpPair, background
from played_kernel import PlayedKernel, aligned, packet_message
from queues import Handle, Packet, Queue, accept
from test_fork import in_child

import libnetfilterqueue as nfq
from libnetfilterqueue import aio
from libnetfilterqueue import trio as in_trio

if GEVENT:
    import gevent

    from libnetfilterqueue import green

pytestmark = pytest.mark.slow  # everything many times

WARM_UP = 5
REPEATS = 10
ROUNDS = 10
LEAST_CHUNK = 32  # bytes, of malloc

# What is used


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
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
        ctypes.pythonapi.PyType_ClearCache()  # it holds names of attributes
        info = _mallinfo()
        descriptors = len(os.listdir("/proc/self/fd"))
        heap = info.uordblks + info.hblkhd
        return cls(_references(), sys.getallocatedblocks(), heap, descriptors)


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
        if max(least) <= 0:
            break
        before = after
    return Usage(*least)


def check_no_growth(call: Callable[[], object]) -> None:
    """Each number stays what it is; memory but for what malloc rounds up to its next chunk."""
    check(growth(call))


def check(grown: Usage) -> None:
    assert max(grown._replace(heap=0)) == 0, grown
    assert grown.heap < LEAST_CHUNK * REPEATS, grown


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
        yield functools.partial(objects.call, member, *positional, **named)


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
                    check_raises(functools.partial(objects.call, member, *positional, **named))


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
    check_no_growth(lambda: use(members))


# Lives


@contextlib.contextmanager
def bound(callback: Callable[[Packet], None] = accept) -> Iterator[tuple[Handle, Queue]]:
    """A handle with a queue of this callback."""
    with nfq.open() as handle:
        yield handle, handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)


def forged(*numbers: int) -> bytearray:
    """Packets of queue 1, as the kernel would send them."""
    return bytearray(b"".join(aligned(packet_message(number)) for number in numbers))


def adopt_descriptor() -> None:
    with nfq.open() as handle, nfq.open(fd=handle) as other:
        other.create_queue(1, accept)


def open_elsewhere() -> None:
    with contextlib.closing(Namespace()) as namespace, nfq.open(netns=namespace.path):
        pass


def open_nowhere() -> None:
    for wrong in ({"netns": "/proc/self/status"}, {"netns": 0}, {"fd": 0}, {"fd": 0, "netns": 0}):
        call: Any = nfq.open
        with pytest.raises((OSError, ValueError)):
            call(**wrong)


def bind_twice() -> None:
    with bound() as (handle, _), nfq.open() as other:
        for each in (handle, other):
            with pytest.raises(OSError, match="bound"):
                each.create_queue(1, accept)


def rebind() -> None:
    with bound() as (handle, queue):
        handle.handle_packet(forged(1, 2))
        queue.destroy()
        with handle.create_queue(1, accept, mode=nfq.NFQNL_COPY_META) as second:
            second.set_mode(nfq.NFQNL_COPY_PACKET, 100)


def refuse_flag() -> None:
    with nfq.open() as handle, pytest.raises(OSError, match="flag"):
        handle.create_queue(1, accept, flags=1 << 31)


def raise_from_callbacks() -> None:
    """The second exception goes to the unraisable hook."""

    def callback(packet: Packet) -> None:
        raise ZeroDivisionError(packet)

    with bound(callback) as (handle, _), pytest.raises(ZeroDivisionError):
        handle.handle_packet(forged(1, 2))


def keep_and_drop() -> None:
    kept: list[Packet] = []
    with bound(kept.append) as (handle, _):
        handle.handle_packet(forged(1, 2, 3))
        kept.pop().accept()
        kept.pop()
        handle.process()
    kept.clear()


def outlive() -> None:
    """A packet and a view hold what they look into, and no longer."""
    kept: list[Packet] = []
    views: list[memoryview] = []

    def callback(packet: Packet) -> None:
        kept.append(packet)
        views.append(packet.payload[1:])

    with bound(callback) as (handle, _):
        handle.handle_packet(forged(1, 2))
        views += [packet.payload for packet in kept]
    assert len(b"".join(views)) == 4 * 7 - 2


class Holder(bytearray):
    """Can hold a view. Not made in each call: free-threaded Pythons may keep what a class has."""

    view: memoryview


def hold_view_of_itself() -> None:
    """A buffer that holds a view of itself."""
    buffer = Holder(forged(1))

    def callback(packet: Packet) -> None:
        buffer.view = packet.payload

    with bound(callback) as (handle, _):
        handle.handle_packet(buffer)


def change_verdicts() -> None:
    """Each call replaces all that the one before has set."""

    def callback(packet: Packet) -> None:
        for payload in (b"a" * 600, bytearray(b"b" * 600)):
            packet.set_verdict(1, 2, payload=payload, vlan=(1, 2), ct_mark=3, ct_labels=b"4")
        if packet.id == 2:
            packet.queue.destroy()

    with bound(callback) as (handle, _):
        handle.handle_packet(forged(1, 2, 3))
        handle.process()


def hold_back() -> None:
    kept: list[Packet] = []
    told: list[int] = []
    with bound(kept.append) as (handle, queue):
        handle.autoflush = False
        handle.on_held = lambda: told.append(1)
        handle.on_close = lambda: told.append(2)
        handle.handle_packet(forged(1, 2, 3, 4))
        for packet in kept[:2]:
            packet.accept(payload=bytes(100))
        queue.set_verdict_batch(nfq.NF_ACCEPT, 3)
        handle.flush()
        kept.pop().accept(payload=bytes(100))
    assert told == [1, 1, 2]


def be_refused() -> None:
    """The kernel does not know the packets."""
    told: list[object] = []
    with bound() as (handle, _):
        handle.on_verdict_error = lambda *error: told.append(error)
        handle.handle_packet(forged(1, 2))
        handle.process()
        handle.handle_packet(forged(3))
        handle.on_verdict_error = None
    assert told


def hooks_that_raise() -> None:
    with bound() as (handle, _):
        handle.on_verdict_error = handle.on_close = lambda *_: 1 / 0
        handle.handle_packet(forged(1))
        handle.process()


def malformed() -> None:
    with bound() as (handle, _), pytest.raises(nfq.MalformedMessageError):
        handle.handle_packet(forged(1, 2) + b"more")


def set_aside() -> None:
    """Packets that come while a request is answered, some of them never dispatched."""
    with PlayedKernel() as kernel:
        queue = kernel.create_queue(1, accept)
        for dispatch in (kernel.handle.process, lambda: None):
            for number in range(3):
                kernel.socket.send(packet_message(number))
            with kernel.answering():
                queue.set_maxlen(10)
            dispatch()


class Cycle:
    """Refers to everything that refers to it."""

    def __init__(self) -> None:
        self.kept: list[Packet] = []
        self.handle = nfq.open()
        self.handle.on_held = self.handle.on_close = self.act
        self.handle.on_verdict_error = self.act
        self.queue = self.handle.create_queue(1, self.act)

    def act(self, *packets: Any) -> None:
        self.kept += packets


def collect_closed_cycle() -> None:
    cycle = Cycle()
    cycle.handle.handle_packet(forged(1))
    cycle.handle.close()
    del cycle
    gc.collect()


def collect_open_cycle() -> None:
    cycle = Cycle()
    cycle.handle.handle_packet(forged(1))
    del cycle
    with pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()


def drop_open() -> None:
    handle = nfq.open()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del handle


# In loops


async def receive(stream: aio.PacketStream, *numbers: int) -> None:
    """Has the stream get packets."""
    stream.handle.handle_packet(forged(*numbers))
    await asyncio.sleep(0)


async def hold(packet: Packet) -> None:
    """A handler that never ends."""
    await asyncio.Event().wait()


async def feed_in_asyncio() -> None:
    with bound() as (handle, _):
        for end in (aio.Attachment.detach, lambda _: handle.close()):
            attachment = aio.attach(handle)
            attachment.pause()
            attachment.resume()
            with pytest.raises(RuntimeError, match="attached"):
                aio.attach(handle)
            end(attachment)
            attachment.detach()
        with pytest.raises(ValueError, match="closed"):
            aio.attach(handle)


async def stream_in_asyncio() -> None:
    for limit in (1, 100):
        async with aio.open_queue(1, limit=limit) as stream:
            await receive(stream, 1, 2, 3, 4)
            (await stream.get()).accept()
            await stream.get_batch(2)
            with pytest.raises(ValueError, match="max"):
                await stream.get_batch(0)
            waiting = [asyncio.ensure_future(stream.get()) for _ in range(2)]
            await asyncio.sleep(0)
        waited = await asyncio.gather(*waiting, return_exceptions=True)
        assert any(isinstance(result, ValueError) for result in waited)  # one packet is left


async def refused_in_asyncio() -> None:
    with bound(), pytest.raises(PermissionError):
        async with aio.open_queue(1):
            pass


async def serve_in_asyncio() -> None:
    """Cancelled while handlers run, and closed while it is full."""
    for concurrency in (1, 10):
        async with aio.open_queue(1) as stream:
            serving = asyncio.ensure_future(aio.serve(stream, hold, concurrency=concurrency))
            await receive(stream, 1, 2, 3)
            await asyncio.sleep(0)
            if concurrency > 1:
                serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def fail_in_asyncio() -> None:
    async def handler(packet: Packet) -> None:
        raise ZeroDivisionError(packet)

    errors: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    async with aio.open_queue(1) as stream:
        serving = asyncio.ensure_future(aio.serve(stream, handler))
        await receive(stream, 1, 2)
        for _ in range(3):  # turns: it starts the handlers, which end, one after the other
            await asyncio.sleep(0)
    await serving
    assert len(errors) == 2


def feed_in_gevent() -> None:
    with bound() as (handle, _):
        for end in (green.Attachment.detach, lambda _: handle.close()):
            attachment = green.attach(handle)
            attachment.pause()
            attachment.resume()
            handle.handle_packet(forged(1))
            gevent.sleep(0)
            end(attachment)
            gevent.sleep(0)
        with pytest.raises(ValueError, match="closed"):
            green.attach(handle)


def stream_in_gevent() -> None:
    with green.open_queue(1) as stream:
        stream.handle.handle_packet(forged(1, 2, 3))
        stream.get().accept()
        stream.get_batch(1)
        waiting = gevent.spawn(list, stream)
        gevent.sleep(0)
    waiting.get()


def serve_in_gevent() -> None:
    """Killed while handlers run, and closed."""
    for kill in (False, True):
        with green.open_queue(1) as stream:
            serving = gevent.spawn(green.serve, stream, lambda _: gevent.sleep(1000))
            gevent.sleep(0)
            stream.handle.handle_packet(forged(1, 2, 3))
            stream._fed()
            gevent.sleep(0)
            if kill:
                serving.kill()
        serving.join()


def stream_without_a_loop() -> None:
    """Closed by its own thread, and stopped by another."""
    for end in (nfq.PacketStream.close, nfq.PacketStream.stop):
        with nfq.open_queue(1) as stream:
            stream.handle.handle_packet(forged(1, 2, 3))
            stream.get().accept()
            stream.get_batch()
            with pytest.raises(TimeoutError):
                stream.get(timeout=0)
            background(end, stream).result(TIMEOUT)
            assert list(stream) == []


async def feed_in_trio() -> None:
    with bound() as (handle, _):
        for end in (in_trio.Attachment.detach, lambda _: handle.close()):
            async with trio.open_nursery() as nursery:
                attachment = in_trio.attach(handle, nursery)
                attachment.pause()
                attachment.resume()
                handle.handle_packet(forged(1))
                await trio.lowlevel.checkpoint()
                end(attachment)


async def stream_in_trio() -> None:
    async with in_trio.open_queue(1) as stream:
        stream.handle.handle_packet(forged(1, 2, 3))
        (await stream.get()).accept()
        await stream.get_batch(1)
        await stream.get()
        with trio.move_on_after(0):
            await stream.get()


async def serve_in_trio() -> None:
    """Cancelled while handlers run, and closed."""

    async def hold_on(packet: Packet) -> None:
        begun.append(packet.id)
        await trio.sleep_forever()

    for cancel in (False, True):
        begun: list[int] = []
        async with in_trio.open_queue(1) as stream, trio.open_nursery() as nursery:
            stream.handle.handle_packet(forged(1, 2, 3))
            nursery.start_soon(in_trio.serve, stream, hold_on)
            while len(begun) < 3:
                await trio.lowlevel.checkpoint()
            if cancel:
                nursery.cancel_scope.cancel()
            else:
                stream.close()


LIVES = [
    stream_without_a_loop,
    adopt_descriptor,
    open_elsewhere,
    open_nowhere,
    bind_twice,
    rebind,
    refuse_flag,
    raise_from_callbacks,
    keep_and_drop,
    outlive,
    hold_view_of_itself,
    change_verdicts,
    hold_back,
    be_refused,
    hooks_that_raise,
    malformed,
    set_aside,
    collect_closed_cycle,
    collect_open_cycle,
    drop_open,
]
GREENLETS = [feed_in_gevent, stream_in_gevent, serve_in_gevent]


TRIO = [feed_in_trio, stream_in_trio, serve_in_trio]


COROUTINES = [
    feed_in_asyncio,
    stream_in_asyncio,
    refused_in_asyncio,
    serve_in_asyncio,
    fail_in_asyncio,
]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
def test_life(life: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Handles, queues, packets and views leave nothing behind, whatever has become of them."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    check_no_growth(life)


@pytest.mark.parametrize("life", COROUTINES, ids=lambda life: life.__name__)
def test_life_in_asyncio(life: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Attachments, streams and handlers leave nothing behind in an asyncio loop that goes on."""
    with asyncio.Runner() as runner:
        check_no_growth(lambda: runner.run(life()))


@pytest.mark.parametrize("life", TRIO, ids=lambda life: life.__name__)
def test_life_in_trio(life: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Attachments, streams and handlers leave nothing behind in trio."""
    check_no_growth(lambda: trio.run(life))


@pytest.mark.gevent
@pytest.mark.parametrize("life", GREENLETS, ids=lambda life: life.__name__)
def test_life_in_gevent(life: Callable[[], None]) -> None:
    """Attachments, streams and handlers leave nothing behind in gevent."""
    check(growth(life)._replace(references=0))


def test_real_packets(udp: UdpPair) -> None:
    """The kernel's own packets leak nothing: with a verdict, without one, or with a new payload."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if packet.id % 3:
            packet.accept(payload=packet.get_payload() if packet.id % 2 else None)
        else:
            kept.append(packet)

    def send() -> None:
        udp.send(b"1", b"2", b"3")
        while handle.process(timeout=0):
            pass
        kept.clear()
        udp.arrivals()

    with bound(callback) as (handle, _):
        check_no_growth(send)


def test_child_of_fork() -> None:
    """A child of fork that closes the handles and drops their packets has nothing of them left."""
    kept: list[Packet] = []
    handles: list[Handle] = []

    def open_some() -> None:
        for number in range(20):
            handle = nfq.open()
            handles.append(handle)
            handle.create_queue(number, kept.append)
            handle.handle_packet(packet_message(number=number))

    def child() -> None:
        while handles:
            handles.pop().close()
        kept.clear()
        after = Usage.now()
        assert after.descriptors == before.descriptors
        assert after.blocks < before.blocks + 20
        assert after.heap < before.heap + 20 * 1024  # a handle has more than that

    before = Usage.now()
    try:
        open_some()
        assert in_child(child) == 0
    finally:
        for handle in handles:
            handle.close()
