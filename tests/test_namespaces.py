# SPDX-License-Identifier: GPL-2.0-or-later
"""open(netns=...): a handle on the queues of another network namespace."""

import contextlib
import errno
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import TIMEOUT, Namespace, UdpPair, background, queue_rule, without_net_admin
from queues import accept, data_of, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET


@pytest.fixture
def other() -> Iterator[Namespace]:
    """A namespace that the test's thread is not in."""
    with contextlib.closing(Namespace()) as namespace:
        yield namespace


def ours() -> str:
    return os.readlink("/proc/thread-self/ns/net")


@contextlib.contextmanager
def descriptor(namespace: Namespace) -> Iterator[int]:
    fd = os.open(namespace.path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


WAYS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "bytes": os.fsencode,
    "path": Path,
}


@pytest.mark.parametrize("way", WAYS)
def test_path(other: Namespace, way: str) -> None:
    """A path of any kind is taken; that namespace's packets come, the thread stays in its own."""
    before = ours()
    with nfq.open(netns=WAYS[way](other.path)) as handle:
        assert ours() == before
        check_packets(handle, other)


def test_descriptor(other: Namespace) -> None:
    """A descriptor on a namespace is taken; it stays the caller's and may be closed at once."""
    with descriptor(other) as fd:
        handle = nfq.open(netns=fd)
        os.fstat(fd)
    with handle:
        check_packets(handle, other)


def test_file(other: Namespace) -> None:
    """An open file, or any object with a fileno(), is taken."""
    with Path(other.path).open("rb") as file, nfq.open(netns=file) as handle:
        check_packets(handle, other)


def check_packets(handle: nfq.NetfilterQueueHandle, namespace: Namespace) -> None:
    """The handle gets what is queued in the namespace, and its devices' names."""
    seen: list[tuple[bytes, str | None]] = []

    def callback(packet: nfq.NetfilterQueueData) -> None:
        seen.append((data_of(packet), packet.outdev_name()))
        packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    with namespace:
        queue_rule(1)
        pair = UdpPair()
    with pair:
        pair.send(b"data")
        process_until(handle, lambda: seen)
        assert pair.arrivals() == [b"data"]
    assert seen == [(b"data", "lo")]


def test_numbers_are_the_namespace_s_own(other: Namespace) -> None:
    """The same number can be bound here and there."""
    with nfq.open() as here, nfq.open(netns=other.path) as there:
        here.create_queue(1, accept)
        there.create_queue(1, accept)


def test_taken_there(other: Namespace) -> None:
    """The error for a number that is taken there has no port id of a queue of ours."""
    with nfq.open(netns=other.path) as first, nfq.open(netns=other.path) as second:
        first.create_queue(1, accept)
        with nfq.open() as here:
            here.create_queue(1, accept)
            with pytest.raises(PermissionError, match="bound by another handle") as raised:
                second.create_queue(1, accept)
    assert "port id" not in str(raised.value)


def test_threads(other: Namespace) -> None:
    """Several threads open handles at once, and each is back in its own namespace."""
    started = threading.Barrier(8)

    def body() -> bool:
        with Namespace() as own:
            before = ours()
            started.wait(TIMEOUT)
            for _ in range(10):
                nfq.open(netns=other.path).close()
                assert ours() == before
        own.close()
        return True

    futures = [background(body) for _ in range(8)]
    assert all(future.result(TIMEOUT) for future in futures)


def test_namespace_that_is_gone(other: Namespace) -> None:
    """The socket keeps its namespace alive, for as long as it is open."""
    handle = nfq.open(netns=other.path)
    other.close()
    other.close = lambda: None  # type: ignore[method-assign]
    with handle:
        handle.create_queue(1, accept, mode=COPY)
        assert handle.process() == 0


def test_not_inherited(other: Namespace) -> None:
    """Child programs do not inherit the descriptor."""
    with nfq.open(netns=other.path) as handle:
        assert not os.get_inheritable(handle.fd())


def test_never_inherited(other: Namespace) -> None:
    """Programs that another thread starts while the socket is opened do not inherit it."""
    numbers = [os.dup(0) for _ in range(4)]  # the socket's is among them
    for number in numbers:
        os.close(number)
    opened = threading.Event()

    def inheritable() -> int:
        seen = 0
        while not opened.is_set():
            for number in numbers:
                with contextlib.suppress(OSError):
                    seen += os.get_inheritable(number)
        return seen

    watching = background(inheritable)
    for _ in range(300):
        nfq.open(netns=other.path).close()
    opened.set()
    assert watching.result(TIMEOUT) == 0


def check_failure(error: type[Exception], match: str, **arguments: Any) -> Any:
    """The call fails, leaves the thread where it was, and no descriptor behind."""
    before = ours()
    gc.collect()  # what earlier tests have left must not go meanwhile
    descriptors = set(os.listdir("/proc/self/fd"))
    with pytest.raises(error, match=match) as raised:
        nfq.open(**arguments)
    assert ours() == before
    assert set(os.listdir("/proc/self/fd")) == descriptors
    return raised.value


def test_no_such_path() -> None:
    """A path that is not there is a FileNotFoundError that names it."""
    check_failure(FileNotFoundError, r"open\(\): netns '/nowhere'", netns="/nowhere")


def test_no_namespace() -> None:
    """A file that is not a network namespace is EINVAL."""
    error = check_failure(OSError, r"open\(\).*not a network namespace", netns="/dev/null")
    assert error.errno == errno.EINVAL
    error = check_failure(OSError, r"not a network namespace", netns="/proc/self/ns/mnt")
    assert error.errno == errno.EINVAL


def test_bad_descriptor() -> None:
    """A bad descriptor is EBADF that names it."""
    error = check_failure(OSError, r"open\(\): netns 999999", netns=999999)
    assert error.errno == errno.EBADF


def test_negative_descriptor() -> None:
    """A negative number is out of range."""
    check_failure(ValueError, r"open\(\): netns must be in 0\.\.2147483647, not -1", netns=-1)


@pytest.mark.parametrize("value", [1.5, [], {}])
def test_wrong_type(value: object) -> None:
    """An object that is neither path nor descriptor is a TypeError that shows it."""
    check_failure(TypeError, r"open\(\): netns must be", netns=value)


def test_path_that_raises() -> None:
    """An exception of the path itself comes out as it is, a TypeError too."""

    class Path:
        def __fspath__(self) -> str:
            raise TypeError("this path is broken")

    check_failure(TypeError, "^this path is broken$", netns=Path())


def test_with_fd() -> None:
    """An adopted descriptor has its namespace: naming another one is a ValueError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        check_failure(ValueError, "exclude each other", netns="/proc/self/ns/net", fd=sock)


def test_queues_need_the_capability_there(other: Namespace) -> None:
    """Opening needs nothing there; binding needs CAP_NET_ADMIN over that namespace."""
    with (
        nfq.open(netns=other.path) as handle,
        without_net_admin(),
        pytest.raises(PermissionError, match="CAP_NET_ADMIN"),
    ):
        handle.create_queue(1, accept)
