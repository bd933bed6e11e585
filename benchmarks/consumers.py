# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python consumers of the benchmark, ours and those of other projects.

    consumers.py LOOP ACTION COUNT FLAGS

binds queue 1, says so on its standard output, and gives verdicts until it is killed. LOOP is a
function in LOOPS, ACTION one in ACTIONS; what COUNT and FLAGS mean stands in common.h.
"""

import asyncio
import contextlib
import ctypes
import importlib
import importlib.util
import itertools
import os
import random
import signal
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import libnetfilterqueue as nfq
from libnetfilterqueue import NF_ACCEPT

BARE = Path(__file__).parent.parent / "build" / "bench" / "bare.so"
QUEUE = 1
MAXLEN = 1 << 20
RECEIVE_BUFFER = 1 << 29
MESSAGE_MAX = 65536 + 4096
TCP_HEADERS = 100  # bytes that no packet without data exceeds
SO_RCVBUFFORCE = 33
PR_SET_PDEATHSIG = 1

# NetfilterQueue's and fnfqueue's packets have accept() and drop() as well.
Callback = Callable[[Any], None]


# What is done with a packet


def accept(_count: int) -> Callback:
    """Accepts every packet."""

    def callback(packet: nfq.NetfilterQueueData) -> None:
        packet.accept()

    return callback


def set_verdict(_count: int) -> Callback:
    """Accepts every packet, as the seed did."""

    def callback(packet: nfq.NetfilterQueueData) -> None:
        packet.set_verdict(NF_ACCEPT)

    return callback


def drop(_count: int) -> Callback:
    """Drops every packet."""

    def callback(packet: nfq.NetfilterQueueData) -> None:
        packet.drop()

    return callback


def read(_count: int) -> Callback:
    """Takes the payload as bytes, and accepts."""

    def callback(packet: nfq.NetfilterQueueData) -> None:
        packet.get_payload()
        packet.accept()

    return callback


def view(_count: int) -> Callback:
    """Takes the payload as a memoryview, and accepts."""

    def callback(packet: nfq.NetfilterQueueData) -> None:
        packet.payload  # noqa: B018
        packet.accept()

    return callback


def unpack(_count: int) -> Callback:
    """Looks into the payload, and accepts."""
    protocol = struct.Struct("9xB")

    def callback(packet: nfq.NetfilterQueueData) -> None:
        protocol.unpack_from(packet)
        packet.accept()

    return callback


def mark(_count: int) -> Callback:
    """Accepts every packet, every tenth with a mark."""

    def callback(packet: nfq.NetfilterQueueData) -> None:
        if packet.id % 10 == 0:
            packet.accept(1)
        else:
            packet.accept()

    return callback


def once(_count: int) -> Callback:
    """Accepts, and marks what carries data: so the rules decide on the rest of its connection."""

    def callback(packet: nfq.NetfilterQueueData) -> None:
        if packet.original_length > TCP_HEADERS:
            packet.accept(mark=1)
        else:
            packet.accept()

    return callback


def rewrite(_count: int) -> Callback:
    """Gives every packet a payload: its own, so that its checksums stay right."""

    def callback(packet: Any) -> None:
        packet.set_verdict(nfq.NF_ACCEPT, payload=packet.get_payload())

    return callback


def checksums(_count: int) -> Callback:
    """Gives every packet a payload of its own, and computes the checksums."""

    def callback(packet: nfq.NetfilterQueueData) -> None:
        payload = bytearray(packet)
        nfq.update_checksums(payload)
        packet.accept(payload=payload)

    return callback


def set_payload(_count: int) -> Callback:
    """Gives every packet its payload anew, as NetfilterQueue's packets know it."""

    def callback(packet: Any) -> None:
        packet.set_payload(packet.get_payload())
        packet.accept()

    return callback


def park(count: int) -> Callback:
    """Accepts, and keeps the first so many packets for good."""
    kept = []

    def callback(packet: nfq.NetfilterQueueData) -> None:
        nonlocal count
        if count:
            count -= 1
            kept.append(packet)
        else:
            packet.accept()

    return callback


def defer(count: int) -> Callback:
    """Accepts each packet when so many more have come."""
    held: deque[nfq.NetfilterQueueData] = deque()

    def callback(packet: nfq.NetfilterQueueData) -> None:
        held.append(packet)
        if len(held) > count:
            held.popleft().accept()

    return callback


def shuffle(count: int) -> Callback:
    """Accepts, for each packet that comes, any of the last so many."""
    held: list[nfq.NetfilterQueueData] = []
    places = itertools.cycle(random.Random(1).choices(range(count), k=1 << 16))

    def callback(packet: nfq.NetfilterQueueData) -> None:
        if len(held) < count:
            held.append(packet)
            return
        place = next(places)
        held[place], packet = packet, held[place]
        packet.accept()

    return callback


# How packets come in


def say_ready() -> None:
    """Tells who started this program that the queue is bound."""
    print("ready", flush=True)


def enlarge(descriptor: int) -> None:
    """Gives a netlink socket a receive buffer in which nothing is lost."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)


def bound(callback: Callback, flags: int, number: int = QUEUE) -> nfq.NetfilterQueueHandle:
    """A handle with its queue."""
    handle = nfq.open()
    handle.create_queue(number, callback, maxlen=MAXLEN, flags=flags, rcvbuf=RECEIVE_BUFFER)
    return handle


def process(callback: Callback, flags: int) -> None:
    """Our own loop."""
    handle = bound(callback, flags)
    say_ready()
    while True:
        handle.process(timeout=None)


def two_threads(callback: Callback, flags: int) -> None:
    """Our own loop twice, each with a queue of its own."""
    handles = [bound(callback, flags, number) for number in (QUEUE, QUEUE + 1)]

    def loop(handle: nfq.NetfilterQueueHandle) -> None:
        while True:
            handle.process(timeout=None)

    threading.Thread(target=loop, args=(handles[1],), daemon=True).start()
    say_ready()
    loop(handles[0])


def two_processes(callback: Callback, flags: int) -> None:
    """The same in two processes, each on a processor. Whatever ends the first ends the second."""
    bound_there, tell = os.pipe()
    places = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {places[0]})
    if os.fork() == 0:
        os.sched_setaffinity(0, {places[-1]})
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        handle = bound(callback, flags, QUEUE + 1)
        os.write(tell, b".")
    else:
        handle = bound(callback, flags)
        os.read(bound_there, 1)
        say_ready()
    while True:
        handle.process(timeout=None)


def manual(callback: Callback, flags: int) -> None:
    """A loop that receives by itself, one message at a time, into its own buffer."""
    handle = bound(callback, flags)
    _receive(handle.fd(), handle.handle_packet)


def _receive(fd: int, handle_packet: Callable[[memoryview], object]) -> None:
    sock = socket.socket(fileno=os.dup(fd))
    view = memoryview(bytearray(MESSAGE_MAX))
    say_ready()
    while True:
        handle_packet(view[: sock.recv_into(view)])


def stream(callback: Callback, flags: int) -> None:
    """`for` over a stream, without a loop."""
    with nfq.open_queue(QUEUE, maxlen=MAXLEN, flags=flags, rcvbuf=RECEIVE_BUFFER) as packets:
        say_ready()
        for packet in packets:
            callback(packet)


def asyncio_attached(callback: Callback, flags: int) -> None:
    """The handle attached to asyncio's loop."""
    asyncio.run(_attached(callback, flags))


def uvloop_attached(callback: Callback, flags: int) -> None:
    """The same in uvloop."""
    importlib.import_module("uvloop").run(_attached(callback, flags))


async def _attached(callback: Callback, flags: int) -> None:
    aio = importlib.import_module("libnetfilterqueue.aio")
    with bound(callback, flags) as handle:
        aio.attach(handle)
        say_ready()
        await asyncio.Event().wait()


def asyncio_stream(callback: Callback, flags: int) -> None:
    """`async for` over a stream, in asyncio."""
    asyncio.run(_streamed(callback, flags))


def uvloop_stream(callback: Callback, flags: int) -> None:
    """The same in uvloop."""
    importlib.import_module("uvloop").run(_streamed(callback, flags))


@contextlib.asynccontextmanager
async def _stream(flags: int) -> AsyncIterator[Any]:
    aio = importlib.import_module("libnetfilterqueue.aio")
    async with aio.open_queue(QUEUE, maxlen=MAXLEN, flags=flags, rcvbuf=RECEIVE_BUFFER) as stream:
        say_ready()
        yield stream


async def _streamed(callback: Callback, flags: int) -> None:
    async with _stream(flags) as stream:
        async for packet in stream:
            callback(packet)


def asyncio_batches(callback: Callback, flags: int) -> None:
    """Batches of a stream's packets, in asyncio."""
    asyncio.run(_batched(callback, flags))


def uvloop_batches(callback: Callback, flags: int) -> None:
    """The same in uvloop."""
    importlib.import_module("uvloop").run(_batched(callback, flags))


async def _batched(callback: Callback, flags: int) -> None:
    async with _stream(flags) as stream:
        while True:
            for packet in await stream.get_batch():
                callback(packet)


def asyncio_serve(callback: Callback, flags: int) -> None:
    """A task a packet, in asyncio."""
    asyncio.run(_served(callback, flags))


def uvloop_serve(callback: Callback, flags: int) -> None:
    """The same in uvloop."""
    importlib.import_module("uvloop").run(_served(callback, flags))


def asyncio_suspended(callback: Callback, flags: int) -> None:
    """A task a packet, which lets others have a turn first, in asyncio."""
    asyncio.run(_served(callback, flags, suspend=True))


def uvloop_suspended(callback: Callback, flags: int) -> None:
    """The same in uvloop."""
    importlib.import_module("uvloop").run(_served(callback, flags, suspend=True))


async def _served(callback: Callback, flags: int, *, suspend: bool = False) -> None:
    async def handler(packet: nfq.NetfilterQueueData) -> None:
        if suspend:
            await asyncio.sleep(0)
        callback(packet)

    aio = importlib.import_module("libnetfilterqueue.aio")
    async with _stream(flags) as stream:
        await aio.serve(stream, handler)


def gevent_attached(callback: Callback, flags: int) -> None:
    """The handle attached to gevent's hub."""
    green = importlib.import_module("libnetfilterqueue.green")
    event = importlib.import_module("gevent.event").Event()
    with bound(callback, flags) as handle:
        green.attach(handle)
        say_ready()
        event.wait()


@contextlib.contextmanager
def _green_stream(flags: int) -> Iterator[Any]:
    green = importlib.import_module("libnetfilterqueue.green")
    with green.open_queue(QUEUE, maxlen=MAXLEN, flags=flags, rcvbuf=RECEIVE_BUFFER) as stream:
        say_ready()
        yield stream


def gevent_stream(callback: Callback, flags: int) -> None:
    """`for` over a stream, in gevent."""
    with _green_stream(flags) as stream:
        for packet in stream:
            callback(packet)


def gevent_batches(callback: Callback, flags: int) -> None:
    """Batches of a stream's packets, in gevent."""
    with _green_stream(flags) as stream:
        while True:
            for packet in stream.get_batch():
                callback(packet)


def gevent_serve(callback: Callback, flags: int) -> None:
    """A greenlet a packet."""
    green = importlib.import_module("libnetfilterqueue.green")
    with _green_stream(flags) as stream:
        green.serve(stream, callback)


def trio_attached(callback: Callback, flags: int) -> None:
    """The handle attached to a nursery of trio's."""

    async def main() -> None:
        with bound(callback, flags) as handle:
            async with trio.open_nursery() as nursery:
                importlib.import_module("libnetfilterqueue.trio").attach(handle, nursery)
                say_ready()

    trio = importlib.import_module("trio")
    trio.run(main)


def _in_trio(use: Callable[[Any, Any], Awaitable[None]], flags: int) -> None:
    """Runs trio, and in it what uses the adapter and a stream."""
    adapter = importlib.import_module("libnetfilterqueue.trio")

    async def main() -> None:
        async with adapter.open_queue(
            QUEUE, maxlen=MAXLEN, flags=flags, rcvbuf=RECEIVE_BUFFER
        ) as stream:
            say_ready()
            await use(adapter, stream)

    importlib.import_module("trio").run(main)


def trio_stream(callback: Callback, flags: int) -> None:
    """`async for` over a stream, in trio."""

    async def use(_adapter: Any, stream: Any) -> None:
        async for packet in stream:
            callback(packet)

    _in_trio(use, flags)


def trio_batches(callback: Callback, flags: int) -> None:
    """Batches of a stream's packets, in trio."""

    async def use(_adapter: Any, stream: Any) -> None:
        while True:
            for packet in await stream.get_batch():
                callback(packet)

    _in_trio(use, flags)


def trio_serve(callback: Callback, flags: int) -> None:
    """A task a packet, in trio."""

    async def handler(packet: nfq.NetfilterQueueData) -> None:
        callback(packet)

    async def use(adapter: Any, stream: Any) -> None:
        await adapter.serve(stream, handler)

    _in_trio(use, flags)


def _bare(callback: Callback) -> tuple[Any, int]:
    """An extension that does the least for a loop, and its queue's descriptor."""
    spec = importlib.util.spec_from_file_location("bare", BARE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.bind(callback)


def bare_process(callback: Callback, _flags: int) -> None:
    """As `process`, but with the bare extension. The same goes for the next ones."""
    process = _bare(callback)[0].process
    say_ready()
    while True:
        process(True)


def bare_manual(callback: Callback, _flags: int) -> None:
    """As `manual`."""
    bare, fd = _bare(callback)
    _receive(fd, bare.handle_packet)


def bare_asyncio(callback: Callback, _flags: int) -> None:
    """As `asyncio_attached`."""
    asyncio.run(_bare_attached(callback))


def bare_uvloop(callback: Callback, _flags: int) -> None:
    """As `uvloop_attached`."""
    importlib.import_module("uvloop").run(_bare_attached(callback))


async def _bare_attached(callback: Callback) -> None:
    bare, fd = _bare(callback)
    asyncio.get_running_loop().add_reader(fd, bare.process, False)
    say_ready()
    await asyncio.Event().wait()


def netfilterqueue(callback: Callback, _flags: int) -> None:
    """NetfilterQueue's own loop. It knows no flags, and copies no more than 4016 bytes."""
    queue = importlib.import_module("netfilterqueue").NetfilterQueue()
    queue.bind(QUEUE, callback, max_len=MAXLEN, sock_len=RECEIVE_BUFFER)
    say_ready()
    queue.run()


def fnfqueue(callback: Callback, flags: int) -> None:
    """Iteration over an fnfqueue connection, whose own thread receives."""
    module = importlib.import_module("fnfqueue")
    connection = module.Connection()
    enlarge(connection._conn.fd)  # there is no public way
    queue = connection.bind(QUEUE)
    queue.set_mode(module.MAX_PAYLOAD, module.COPY_PACKET)
    queue.set_maxlen(MAXLEN)
    if flags & nfq.NFQA_CFG_F_GSO:
        queue.gso = True  # assigning False sets it as well
    say_ready()
    for packet in connection:
        callback(packet)


ACTIONS = {
    f.__name__: f
    for f in (
        accept,
        set_verdict,
        drop,
        read,
        view,
        unpack,
        mark,
        once,
        rewrite,
        checksums,
        set_payload,
        park,
        defer,
        shuffle,
    )
}
LOOPS = {
    f.__name__: f
    for f in (
        process,
        two_threads,
        two_processes,
        manual,
        stream,
        asyncio_attached,
        asyncio_stream,
        asyncio_batches,
        asyncio_serve,
        asyncio_suspended,
        uvloop_attached,
        uvloop_stream,
        uvloop_batches,
        uvloop_serve,
        uvloop_suspended,
        gevent_attached,
        gevent_stream,
        gevent_batches,
        gevent_serve,
        trio_attached,
        trio_stream,
        trio_batches,
        trio_serve,
        bare_process,
        bare_manual,
        bare_asyncio,
        bare_uvloop,
        netfilterqueue,
        fnfqueue,
    )
}


def main(loop: str, action: str, count: str, flags: str) -> None:
    """Runs the loop."""
    LOOPS[loop](ACTIONS[action](int(count)), int(flags))


if __name__ == "__main__":
    main(*sys.argv[1:])
