# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors that other code has closed, replaced or shut down under a handle."""

import asyncio
import errno
import gc
import os
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from netns import TIMEOUT, UdpPair, background, queue_rule
from queues import Handle, Packet, Queue, accept, keeping, receive

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

Call = Callable[[Handle, Queue, Packet], object]

CALLS: dict[str, Call] = {
    r"process\(\)": lambda handle, *_: handle.process(),
    r"process\(\): .*": lambda handle, *_: handle.process(timeout=None),
    "rcvbuf": lambda handle, *_: handle.rcvbuf,
    "no_enobufs": lambda handle, *_: handle.no_enobufs,
    r"create_queue\(2\)": lambda handle, *_: handle.create_queue(2, accept),
    r"create_queue\(3\)": lambda handle, *_: handle.create_queue(3, accept, rcvbuf=1),
    r"bind_pf\(\)": lambda handle, *_: handle.bind_pf(2),
    r"set_maxlen\(1\)": lambda _, queue, __: queue.set_maxlen(1),
    r"set_mode\(1, 0\)": lambda _, queue, __: queue.set_mode(1, 0),
    r"set_flags\(1, 1\)": lambda _, queue, __: queue.set_flags(1, 1),
    r"accept\(\)": lambda *objects: objects[2].accept(),
    r"outdev_name\(\)": lambda *objects: objects[2].outdev_name(),
}


@pytest.fixture
def packet(handle: Handle, udp: UdpPair) -> Packet:
    """A packet of the handle's that is kept."""
    queue_rule(1)
    packets = keeping(handle)
    udp.send(b"data")
    return receive(handle, packets)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def drop(handles: list[Handle]) -> None:
    """Has nobody hold them any more."""
    handles.clear()
    gc.collect()


@pytest.mark.parametrize("name", CALLS)
def test_closed(handle: Handle, packet: Packet, name: str) -> None:
    """Every call that needs the descriptor says that other code has closed it."""
    os.close(handle.fd())
    with pytest.raises(OSError, match=rf"^\[Errno 9\] {name}.*: other code has closed") as caught:
        CALLS[name](handle, packet.queue, packet)
    assert caught.value.errno == errno.EBADF
    assert not handle.closed
    handle.close()


@pytest.mark.parametrize("name", CALLS)
def test_replaced(handle: Handle, packet: Packet, name: str) -> None:
    """A handle whose descriptor's number is now a file's says so, and leaves the file as it is."""
    number = handle.fd()
    path = os.open("/dev/null", os.O_RDWR)
    os.dup2(path, number)
    match = rf"^\[Errno \d+\] {name}.*: other code has closed the handle's descriptor, and"
    with pytest.raises(OSError, match=match) as caught:
        CALLS[name](handle, packet.queue, packet)
    assert caught.value.errno in (errno.ENOTSOCK, errno.ENOTTY)
    handle.close()
    assert is_open(number)
    os.close(number)
    os.close(path)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets that are connected."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(0.2)
        yield ours, theirs


def test_strangers_socket(
    handle: Handle, packet: Packet, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Closing sends nothing to a stranger's socket, and does not close it; dropping does neither.

    The queue went with the descriptor, and with it the packet.
    """
    ours, theirs = pair
    opened = [nfq.open()]
    opened[0].create_queue(2, accept)
    numbers = [handle.fd(), opened[0].fd()]
    for number in numbers:
        os.dup2(theirs.fileno(), number)
    handle.close()
    with pytest.warns(ResourceWarning, match="unclosed"):
        drop(opened)
    with pytest.raises(nfq.ClosedError):
        packet.accept()
    assert all(map(is_open, numbers))
    with pytest.raises(TimeoutError):
        ours.recv(1 << 16)
    for number in numbers:
        os.close(number)
    with nfq.open() as other:
        other.create_queue(1, accept)


def open_numbers() -> set[int]:
    """But for the one of the listing itself."""
    return set(filter(is_open, map(int, os.listdir("/proc/self/fd"))))


def open_epoll() -> int:
    with select.epoll() as epoll:
        return os.dup(epoll.fileno())


@pytest.mark.parametrize("stranger", [open_epoll, lambda: os.eventfd(0)], ids=["epoll", "eventfd"])
def test_all_descriptors_closed(stranger: Callable[[], int]) -> None:
    """A program that closes all descriptors, and opens others, has them after the handle closes."""
    before = open_numbers()
    handle = nfq.open()
    numbers = open_numbers() - before
    assert handle.fd() in numbers
    for number in numbers:
        descriptor = stranger()
        os.dup2(descriptor, number)
        os.close(descriptor)
    handle.close()
    assert all(map(is_open, numbers))
    for number in numbers:
        os.close(number)


# Sockets that are shut down


@pytest.mark.parametrize("timeout", [0, 0.1, None])
def test_shut_down(pair: tuple[socket.socket, socket.socket], timeout: float | None) -> None:
    """A socket that is shut down is an error once all that came before it is dispatched."""
    _, theirs = pair
    with nfq.open(fd=theirs.fileno()) as handle:
        assert handle.process() == 0
        theirs.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionResetError, match=r"process\(\): .*: the other end of"):
            handle.process(timeout=timeout)
        assert handle.stats().receives == 0


def test_shut_down_while_it_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    """A thread that waits gets the error, and did not use the CPU meanwhile."""
    _, theirs = pair

    def wait() -> float:
        before = time.thread_time()
        with pytest.raises(ConnectionResetError, match=r"process\(\): .*: the other end of"):
            handle.process(timeout=None)
        return time.thread_time() - before

    with nfq.open(fd=theirs.fileno()) as handle:
        waiting = background(wait)
        time.sleep(0.05)
        theirs.shutdown(socket.SHUT_RD)
        assert waiting.result(TIMEOUT) < 0.05


def test_other_end_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    """A request to a closed other end says so."""
    ours, theirs = pair
    with nfq.open(fd=theirs.fileno()) as handle:
        ours.close()
        with pytest.raises(ConnectionRefusedError, match=r"create_queue\(1\): .*: the other end"):
            handle.create_queue(1, accept)


def test_fed_by_a_loop(pair: tuple[socket.socket, socket.socket]) -> None:
    """A loop's handler gets the error once, and the handle is detached."""
    _, theirs = pair
    told: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        with nfq.open(fd=theirs.fileno()) as handle, aio.attach(handle) as attachment:
            theirs.shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(0.05)
            assert attachment.closed

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))
    assert list(map(type, told)) == [ConnectionResetError]
