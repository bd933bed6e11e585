# SPDX-License-Identifier: GPL-2.0-or-later
"""The receive buffer has room for the packets that the queues of a handle may hold."""

import contextlib
import socket
from collections.abc import Callable

import pytest
from netns import UdpPair, queue_rule, without_net_admin
from queues import Handle, accept, netlink_socket

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel

SO_RCVBUFFORCE = 33
COST = 2304  # what the kernel charges for a packet of 1500 bytes
DEFAULT = 1024  # packets that a queue holds
MOST = 64 << 20
SMALL = 1 << 16


def give(handle: Handle, size: int) -> int:
    """Gives the socket a buffer behind the handle's back, as far as is allowed; returns its size.

    What the system's default is must not matter.
    """
    with netlink_socket(handle) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size // 2)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size // 2)
    return handle.rcvbuf


def allowed(size: int) -> int:
    """How much of such a buffer the system allows."""
    with nfq.open() as handle:
        handle.rcvbuf = size // 2
        return handle.rcvbuf


SIZES: list[tuple[int | None, int]] = [
    (None, DEFAULT * COST),
    (DEFAULT * 2, DEFAULT * 2 * COST),
    (100, 100 * COST),
    (1, SMALL),
    (0, SMALL),
    (1 << 20, MOST),
    ((1 << 32) - 1, MOST),
]


@pytest.mark.parametrize(("maxlen", "size"), SIZES)
def test_follows_maxlen(handle: Handle, maxlen: int | None, size: int) -> None:
    """The buffer grows so that maxlen packets have room, up to 64 MiB, and never shrinks."""
    give(handle, SMALL)
    handle.create_queue(1, accept, maxlen=maxlen)
    assert handle.rcvbuf == allowed(size)


def test_fake_kernel(nfqueue: FakeKernel) -> None:
    """The buffer grows on the fake kernel too."""
    with nfq.open() as handle:
        give(handle, SMALL)
        handle.create_queue(1, accept, maxlen=100)
        assert handle.rcvbuf == 100 * COST
        nfqueue.enqueue_all([bytes(1500)] * 100)
        assert sum(iter(handle.process, 0)) == 100


def test_adopted(handle: Handle) -> None:
    """The buffer of an adopted descriptor grows too, for every copy of it."""
    give(handle, SMALL)
    with nfq.open(fd=handle.fd()) as other:
        assert other.rcvbuf == SMALL
        other.create_queue(1, accept)
    assert handle.rcvbuf == allowed(DEFAULT * COST)


def test_beside_other_queues(handle: Handle) -> None:
    """The buffer has room for all queues of a handle that are bound."""
    give(handle, SMALL)
    first = handle.create_queue(1, accept, maxlen=100)
    handle.create_queue(2, accept, maxlen=200)
    assert handle.rcvbuf == 300 * COST
    first.destroy()
    handle.create_queue(3, accept, maxlen=50)
    assert handle.rcvbuf == 300 * COST
    handle.create_queue(4, accept, maxlen=100)
    assert handle.rcvbuf == 350 * COST


def test_set_maxlen(handle: Handle) -> None:
    """The buffer grows also when maxlen is raised later, and stays when it is lowered."""
    give(handle, SMALL)
    queue = handle.create_queue(1, accept, maxlen=50)
    handle.create_queue(2, accept, maxlen=10)
    queue.set_maxlen(100)
    assert handle.rcvbuf == 110 * COST
    queue.set_maxlen(1)
    queue.set_maxlen(90)
    assert handle.rcvbuf == 110 * COST


def set_attribute(handle: Handle) -> None:
    handle.rcvbuf = 10_000
    handle.create_queue(1, accept)


LEAVING: dict[str, tuple[Callable[[Handle], object], int]] = {
    "the attribute": (set_attribute, 20_000),
    "a number": (lambda handle: handle.create_queue(1, accept, rcvbuf=10_000), 20_000),
    "0": (lambda handle: handle.create_queue(1, accept, rcvbuf=0), SMALL),
}


@pytest.mark.parametrize("way", LEAVING)
def test_left_as_it_is(handle: Handle, way: str) -> None:
    """A size that somebody has set stays, also when the queue is to hold more."""
    create, size = LEAVING[way]
    give(handle, SMALL)
    create(handle)
    assert handle.rcvbuf == size
    with nfq.open(fd=handle.fd()) as copy:  # the number is bound on this socket
        assert copy.rcvbuf == size


def test_later_calls(handle: Handle) -> None:
    """A number is kept by queues that come later; 0 is about one queue only."""
    give(handle, SMALL)
    handle.create_queue(1, accept, maxlen=10, rcvbuf=0).set_maxlen(1000)
    assert handle.rcvbuf == SMALL
    handle.create_queue(2, accept, maxlen=100)
    assert handle.rcvbuf == allowed(1100 * COST)
    handle.create_queue(3, accept, rcvbuf=10_000)
    assert handle.rcvbuf == 20_000
    handle.create_queue(4, accept).set_maxlen(5000)
    assert handle.rcvbuf == 20_000


def test_without_privilege(handle: Handle) -> None:
    """If the system allows less than the buffer has, it stays as it is."""
    before = give(handle, 8 << 20)
    with without_net_admin(), contextlib.suppress(PermissionError):
        handle.create_queue(1, accept, maxlen=1 << 20)
    assert handle.rcvbuf >= before


def test_wrong_sizes(handle: Handle) -> None:
    """A number out of range or of another type is refused, and nothing is bound."""
    before = handle.rcvbuf
    for size in (-1, 1 << 31):
        with pytest.raises(ValueError, match=r"create_queue\(\): rcvbuf must be in 0\.\."):
            handle.create_queue(1, accept, rcvbuf=size)
    with pytest.raises(TypeError, match=r"create_queue\(\): rcvbuf"):
        handle.create_queue(1, accept, rcvbuf="1")  # type: ignore[arg-type]
    assert handle.rcvbuf == before
    handle.create_queue(1, accept)


def test_burst(handle: Handle) -> None:
    """A burst of as many packets as the queue may hold is lost nowhere while nobody reads."""
    give(handle, SMALL)
    queue_rule(1, chain="PREROUTING")  # where packets take none of their sender's buffer
    handle.create_queue(1, accept, maxlen=900)
    with UdpPair() as udp:
        udp.send(*[bytes(1400)] * 900)
        assert sum(iter(handle.process, 0)) == (900 if allowed(900 * COST) == 900 * COST else 0)
    assert handle.stats().overruns == 0
