# SPDX-License-Identifier: GPL-2.0-or-later
"""queue_status(): the kernel's own table of queues."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from netns import TIMEOUT, Namespace, UdpPair, outside, queue_rule
from queues import Handle, Packet, accept, process_until
from statuses import status, visible

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
NOBODY = 65534


def check_hidden() -> None:
    """Where the kernel hides the table: PermissionError that says who may read it."""
    with pytest.raises(PermissionError, match=r"queue_status\(\).*root") as raised:
        nfq.queue_status()
    assert raised.value.errno == errno.EACCES


def test_queues(handle: Handle, udp: UdpPair) -> None:
    """The table has a line per queue, with what waits, its mode, and its drops."""
    if not visible():
        check_hidden()
        return
    packets: list[Packet] = []
    assert nfq.queue_status() == []
    handle.create_queue(1, packets.append, mode=COPY, range=100, maxlen=3)
    handle.create_queue(0xFFFF, accept, mode=nfq.NFQNL_COPY_META)
    udp.send(*[b"data"] * 5)
    process_until(handle, lambda: len(packets) == 3)
    packets[0].accept()
    table = status()
    assert sorted(table) == [1, 0xFFFF]
    line = table[1]
    assert isinstance(line, nfq.QueueStatus)
    assert (line.waiting, line.copy_mode, line.copy_range) == (2, COPY, 100)
    assert isinstance(line.copy_mode, nfq.CopyMode)
    assert (line.queue_dropped, line.user_dropped, line.id_sequence) == (2, 0, 3)
    assert line.portid == table[0xFFFF].portid != 0
    assert table[0xFFFF].copy_mode is nfq.NFQNL_COPY_META
    handle.close()
    assert nfq.queue_status() == []


def test_receive_buffer_drops(handle: Handle) -> None:
    """Packets that the receive buffer had no room for are counted apart."""
    if not visible():
        check_hidden()
        return
    queue_rule(1)
    handle.rcvbuf = 4096
    handle.create_queue(1, accept, mode=COPY)
    with UdpPair() as udp:
        udp.send(*[bytes(1000)] * 20)
    line = status()[1]
    assert line.user_dropped > 0
    assert line.waiting + line.user_dropped == 20
    assert line.queue_dropped == 0


def test_many_queues(handle: Handle) -> None:
    """The table may have hundreds of lines."""
    if not visible():
        check_hidden()
        return
    for number in range(300):
        handle.create_queue(number, accept)
    assert sorted(status()) == list(range(300))


def test_namespace_of_the_thread(handle: Handle) -> None:
    """Each thread sees the namespace that it is in."""
    if not visible():
        check_hidden()
        return
    handle.create_queue(1, accept)
    other = Namespace()
    with other:
        assert nfq.queue_status() == []
    other.close()
    assert list(status()) == [1]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Neither root nor of its group for the length of the block."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def status_after(*command: str) -> subprocess.CompletedProcess[str]:
    """The table as a program sees it that the command starts."""
    ask = "import libnetfilterqueue as nfq; print(nfq.queue_status())"
    command = (*command, sys.executable, "-P", "-c", ask)
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def test_hidden() -> None:
    """The table is hidden from all but root, who is nobody if both namespaces are made at once."""
    if outside("uid", NOBODY) is None:
        assert "PermissionError: [Errno 13] queue_status()" in status_after("unshare", "-rn").stderr
    else:
        with as_nobody():
            check_hidden()


def test_user_namespace() -> None:
    """Root of a user namespace sees the table of a network namespace that is made in it."""
    done = status_after("unshare", "-r", "unshare", "-n")
    assert (done.stdout, done.stderr) == ("[]\n", "")
