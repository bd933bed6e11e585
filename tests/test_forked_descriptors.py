# SPDX-License-Identifier: GPL-2.0-or-later
"""No child keeps a copy of a handle's descriptors, and so none keeps a queue."""

import asyncio
import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from netns import TIMEOUT, UdpPair, queue_rule
from nurseries import in_trio
from queues import Handle, Packet, accept, netlink_socket, process_until
from test_fork import in_child

import libnetfilterqueue as nfq
from libnetfilterqueue import aio, trio


def opened() -> list[str]:
    """The sockets and non-blocking pipes that this process has open: what handles are made of."""
    links = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the directory's own
            link = os.readlink(path)
            if link.startswith("socket:") or not os.get_blocking(int(path.name)):
                links.append(link)
    return sorted(links)


def check_closed(others: list[str]) -> None:
    """Ends the child, with 0 if nothing is open in it but those."""
    os._exit(0 if opened() == others else 3)


def fork(child: Callable[[], None]) -> int:
    return in_child(child)


def fork_in_c(child: Callable[[], None]) -> int:
    """By C code that Python knows nothing of."""
    number = ctypes.PyDLL(None).fork()
    if number == 0:
        child()
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def fork_with_terminal(child: Callable[[], None]) -> int:
    number, terminal = os.forkpty()
    if number == 0:
        child()
    status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    os.close(terminal)
    return status


def fork_twice(child: Callable[[], None]) -> int:
    return in_child(lambda: os._exit(in_child(child)))


def multiprocess(child: Callable[[], None]) -> int:
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(TIMEOUT)
    assert process.exitcode is not None
    return process.exitcode


FORKS = [fork, fork_in_c, fork_with_terminal, fork_twice, multiprocess]


@pytest.mark.parametrize("forking", FORKS)
def test_closed_at_once(forking: Callable[[Callable[[], None]], int]) -> None:
    """Before any Python code of the child runs, the descriptors of all handles are closed in it."""
    gc.collect()  # what earlier tests have left must not go meanwhile
    others = opened()
    with nfq.open() as handle, nfq.open(fd=handle.fd()) as adopted:
        handle.create_queue(1, accept)
        assert forking(lambda: check_closed(others)) == 0
        assert not handle.closed
        assert adopted.process() == 0


def test_where_a_callback_forks(udp: UdpPair) -> None:
    """A callback's child has them closed too, while the dispatch that called it goes on."""
    statuses: list[int] = []
    gc.collect()  # what earlier tests have left must not go meanwhile
    others = opened()
    queue_rule(1)

    def callback(packet: Packet) -> None:
        statuses.append(in_child(lambda: check_closed(others)))
        packet.accept()

    with nfq.open() as handle:
        handle.create_queue(1, callback)
        udp.send(b"1", b"2")
        assert handle.process() == 2
    assert statuses == [0, 0]
    assert udp.arrivals() == [b"1", b"2"]


PROGRAM = """
import asyncio, multiprocessing, os, sys, threading, time, warnings
import libnetfilterqueue as nfq
from libnetfilterqueue import aio, trio

warnings.simplefilter("error")

def helper(started):
    started.set()
    time.sleep({timeout})

def plain(context):
    handle = nfq.open()
    handle.create_queue(1, lambda packet: packet.accept())
    threading.Thread(target=handle.process, args=(64, None), daemon=True).start()
    start(context)
    time.sleep({timeout})

def start(context):
    started = context.Event()
    process = context.Process(target=helper, args=(started,))
    process.start()
    started.wait()
    print(process.pid, flush=True)

async def streaming(context):
    async with aio.open_queue(1) as stream:
        start(context)
        async for packet in stream:
            packet.accept()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[2] == "aio":
        asyncio.run(streaming(context))
    else:
        plain(context)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("kind", ["plain", "aio"])
def test_helper_outlives_the_program(tmp_path: Path, method: str, kind: str) -> None:
    """A program is killed and its helper lives on: the queue is gone, and can be bound again."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(timeout=TIMEOUT))
    command = [sys.executable, "-P", str(path), method, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        helper = int(program.stdout.readline())
        program.kill()
        program.wait(TIMEOUT)
        try:
            with nfq.open() as handle:
                handle.create_queue(1, accept)
        finally:
            os.kill(helper, signal.SIGKILL)


def test_beside_threads(udp: UdpPair) -> None:
    """While threads process, open and close, and may hold any lock, a child has nothing open."""
    gc.collect()  # what earlier tests have left must not go meanwhile
    others = opened()
    queue_rule(1)
    seen: list[int] = []
    done = threading.Event()

    def process() -> None:
        while not done.is_set():
            handle.process(timeout=0.001)

    def open_and_close() -> None:
        while not done.is_set():
            with nfq.open() as other:
                other.create_queue(2, accept)

    def callback(packet: Packet) -> None:
        seen.append(packet.id)
        packet.accept()

    def child() -> None:
        assert handle.closed
        with pytest.raises(RuntimeError, match="after fork"):
            handle.stats()
        handle.close()
        check_closed(others)

    handle = nfq.open()
    handle.create_queue(1, callback)
    threads = [threading.Thread(target=target) for target in (process, process, open_and_close)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            udp.send(b"data")
            assert in_child(child) == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()
    process_until(handle, lambda: len(seen) == 30)
    handle.close()
    assert len(udp.arrivals()) == 30


SUBINTERPRETER = """
import ctypes, importlib, os, sys
sys.path[:0] = {path!r}
import libnetfilterqueue
name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
interpreters = importlib.import_module(name)
number = interpreters.create()
interpreters.run_string(number, "import libnetfilterqueue as nfq; handle = nfq.open()")
child = ctypes.PyDLL(None).fork()  # os.fork hangs on CPython 3.11 where there are interpreters
if child == 0:
    paths = ["/proc/self/fd/" + name for name in os.listdir("/proc/self/fd")]
    links = [os.readlink(path) for path in paths if os.path.lexists(path)]
    os._exit(any(link.startswith("socket:") for link in links))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
interpreters.run_string(number, "handle.close()")
interpreters.destroy(number)
"""


def test_other_interpreters() -> None:
    """What another interpreter of the process has opened is closed in the child as well."""
    program = SUBINTERPRETER.format(path=sys.path)
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=TIMEOUT)


def test_passed_on(handle: Handle, udp: UdpPair) -> None:
    """A program that wants to share its socket passes a copy of the descriptor to its child."""
    queue_rule(1)
    handle.create_queue(1, accept)
    udp.send(b"1", b"2")

    def child() -> None:
        with nfq.open(fd=copy.fileno()) as mine:
            assert mine.rcvbuf > 0
            assert len(copy.recv(1 << 16)) > 0

    with netlink_socket(handle) as copy:
        assert in_child(child) == 0
    assert handle.process() == 1
    assert udp.arrivals() == [b"2"]


def test_no_warning() -> None:
    """The child gets no warnings of handles that it drops: they were the parent's to close."""
    program = """
import gc, os, sys
import libnetfilterqueue as nfq

class Callback:
    def __call__(self, packet):
        packet.accept()

told = []
sys.unraisablehook = told.append
handles = []
for number in range(3):
    callback = Callback()
    handles.append(nfq.open())
    callback.handle = handles[-1]  # a cycle
    handles[-1].create_queue(number, callback)
del callback
child = os.fork()
if child == 0:
    handles.clear()
    gc.collect()
    os._exit(len(told))
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
for handle in handles:
    handle.close()
sys.exit(status)
"""
    command = [sys.executable, "-P", "-W", "error", "-c", program]
    subprocess.run(command, check=True, timeout=TIMEOUT)


async def test_stream_in_the_child(udp: UdpPair) -> None:
    """A stream that asyncio feeds is closed in the child; it can be closed there."""
    async with aio.open_queue(1) as stream:

        def child() -> None:
            assert stream.handle.closed
            with pytest.raises(RuntimeError, match="after fork"):
                stream.queue.set_maxlen(1)
            stream.close()
            assert stream.closed

        assert in_child(child) == 0
        udp.send(b"data")
        (await stream.get()).accept()
        await asyncio.sleep(0)
    assert udp.arrivals() == [b"data"]


async def no_handler(packet: Packet) -> None:
    pytest.fail("the packet is the parent's")


def refused(serving: Coroutine[object, object, None]) -> None:
    """In the child: an error, before any handler begins."""
    with pytest.raises(RuntimeError, match=r"serve\(\): .* after fork"):
        serving.send(None)


async def test_served_in_the_child(udp: UdpPair) -> None:
    """What the stream has read is the parent's: no handler begins in the child."""
    async with aio.open_queue(1) as stream:
        udp.send(b"1", b"2")
        (await stream.get()).accept()
        assert in_child(lambda: refused(aio.serve(stream, no_handler))) == 0
        (await stream.get()).accept()
    assert udp.arrivals() == [b"1", b"2"]


@in_trio
async def test_served_by_trio_in_the_child(udp: UdpPair) -> None:
    """The same in trio."""
    async with trio.open_queue(1) as stream:
        udp.send(b"1", b"2")
        (await stream.get()).accept()
        assert in_child(lambda: refused(trio.serve(stream, no_handler))) == 0
        (await stream.get()).accept()
    assert udp.arrivals() == [b"1", b"2"]


@pytest.mark.gevent
def test_green_stream_in_the_child(udp: UdpPair) -> None:
    """A stream that gevent feeds is closed in the child; it can be closed and detached there."""
    from libnetfilterqueue import green  # noqa: PLC0415 (not every Python has it)

    with green.open_queue(1) as stream, nfq.open() as handle:
        attachment = green.attach(handle)

        def child() -> None:
            assert (stream.handle.closed, handle.closed) == (True, True)
            attachment.detach()
            assert attachment.closed
            with pytest.raises(RuntimeError, match=r"serve\(\): .* after fork"):
                green.serve(stream, accept)
            stream.close()

        assert in_child(child) == 0
        udp.send(b"data")
        stream.get().accept()
        attachment.detach()
    assert udp.arrivals() == [b"data"]
