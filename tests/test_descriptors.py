# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that may have no more descriptors: OSError, and none is left open."""

import contextlib
import errno
import gc
import os
import resource
import socket
from collections.abc import Callable, Iterator

import pytest

import libnetfilterqueue as nfq


@contextlib.contextmanager
def only(count: int) -> Iterator[None]:
    """The lowest descriptors are taken, and no more than so many numbers are left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def own() -> nfq.NetfilterQueueHandle:
    return nfq.open()


def elsewhere() -> nfq.NetfilterQueueHandle:
    return nfq.open(netns="/proc/thread-self/ns/net")


@pytest.mark.parametrize("how", [own, elsewhere])
def test_open(how: Callable[[], nfq.NetfilterQueueHandle]) -> None:
    """open() fails cleanly whichever of its descriptors is the one too many."""
    gc.collect()  # what earlier tests have left must not go meanwhile
    before = descriptors()
    failures = 0
    for count in range(64):
        try:
            with only(count):
                handle = how()
        except OSError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017 (there are as many as it takes)
            assert descriptors() == before
            failures += 1
        else:
            handle.close()
            break
    assert failures >= 2
    assert descriptors() == before


def test_adopt() -> None:
    """Adopting fails cleanly without room for the copy, or for what wakes waiting threads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        before = descriptors()
        for count in range(2):
            with only(count), pytest.raises(OSError, match=r"open\(\).*Too many open files"):
                nfq.open(fd=theirs)
            assert descriptors() == before


def test_queue_status() -> None:
    """queue_status() fails cleanly if the kernel's table can't be read."""
    with only(0), pytest.raises(OSError, match="Too many open files") as error:
        nfq.queue_status()
    assert error.value.errno == errno.EMFILE
