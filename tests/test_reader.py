# SPDX-License-Identifier: GPL-2.0-or-later
"""Where process(timeout=None) waits: inside the system call that receives, as long as it is alone.

Whoever reads too, configures, closes or learns the descriptor gets it out of there first.
"""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from netns import TIMEOUT, UdpPair
from queues import ROUNDS, Handle, Packet, accept, data_of
from test_fork import in_child

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext

COPY = nfq.NFQNL_COPY_PACKET
NOOP = struct.pack("=IHHII", 16, 1, 0, 0, 0)  # a message without any effect


class Reader:
    """A thread that calls `process` until the handle is closed."""

    def __init__(self, handle: Handle, timeout: float | None = None) -> None:
        self._handle, self._timeout = handle, timeout
        self._descriptor = _ext._fileno(handle)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(nfq.ClosedError):
            while True:
                self._handle.process(timeout=self._timeout)

    def _is_inside(self) -> bool:
        """Whether it waits inside.

        A system call that receives has the descriptor as its first argument, ppoll an address.
        """
        call = Path(f"/proc/self/task/{self._thread.native_id}/syscall").read_text().split()
        return call[0] != "running" and int(call[1], 16) == self._descriptor

    def is_seen_inside(self) -> bool:
        """The same, at any time in half the limit after which it goes elsewhere."""
        end = time.monotonic() + 0.05
        while not (inside := self._is_inside()) and time.monotonic() < end:
            time.sleep(0.001)
        return inside

    def goes_inside(self, udp: UdpPair, tries: int = 100) -> bool:
        """The same, after one of so many packets, which are accepted."""
        for number in range(tries):
            udp.send(b"%d" % number)
            assert udp.recv() == b"%d" % number
            if self.is_seen_inside():
                return True
        return False

    def join(self) -> None:
        """Waits for its end, once the handle is closed."""
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


@pytest.fixture
def reader(handle: Handle) -> Iterator[Reader]:
    """The only one that reads the handle, which accepts what comes."""
    handle.create_queue(1, accept, mode=COPY)
    reader = Reader(handle)
    yield reader
    handle.close()
    reader.join()


def test_alone(handle: Handle, udp: UdpPair, reader: Reader) -> None:
    """It waits inside, and its packets pass as they come."""
    assert reader.goes_inside(udp)
    before = handle.stats().packets
    for number in range(ROUNDS):
        udp.send(b"%d" % number)
        assert udp.recv() == b"%d" % number
    assert handle.stats().packets == before + ROUNDS


def test_not_for_long(udp: UdpPair, reader: Reader) -> None:
    """After a while without packets it waits where it hears of everything."""
    assert reader.goes_inside(udp)
    end = time.monotonic() + TIMEOUT
    while reader.is_seen_inside():
        assert time.monotonic() < end
    time.sleep(0.01)
    assert not reader.is_seen_inside()
    assert reader.goes_inside(udp)


def test_a_limit_of_time(handle: Handle, udp: UdpPair) -> None:
    """One that waits for so long waits on the descriptor."""
    handle.create_queue(1, accept, mode=COPY)
    reader = Reader(handle, timeout=TIMEOUT)
    assert not reader.goes_inside(udp, 3)
    handle.close()
    reader.join()


@pytest.mark.parametrize("expose", [Handle.fd, Handle.fileno])
def test_exposed(
    handle: Handle, udp: UdpPair, reader: Reader, expose: Callable[[Handle], int]
) -> None:
    """Who knows the descriptor may close it, and may read it, without a limit of time."""
    assert reader.goes_inside(udp)
    with socket.socket(fileno=os.dup(expose(handle))) as sock:
        assert not reader.goes_inside(udp, 3)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == bytes(16)


def test_two(handle: Handle, udp: UdpPair, reader: Reader) -> None:
    """Two that read know of each other's messages, which nobody does inside."""
    assert reader.goes_inside(udp)
    other = Reader(handle)
    for number in range(ROUNDS):
        udp.send(b"%d" % number)
        assert udp.recv() == b"%d" % number
    assert not reader.goes_inside(udp, 3)
    assert not other.goes_inside(udp, 3)
    handle.close()
    other.join()


def test_kept(handle: Handle, udp: UdpPair) -> None:
    """While a packet is kept its verdict may have to be sent again, and by whom but the reader."""
    kept: SimpleQueue[Packet] = SimpleQueue()

    def callback(packet: Packet) -> None:
        kept.put(packet) if data_of(packet) == b"kept" else packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    reader = Reader(handle)
    udp.send(b"kept")
    packet = kept.get(timeout=TIMEOUT)
    assert not reader.goes_inside(udp, 3)
    packet.accept()
    assert udp.recv() == b"kept"
    assert reader.goes_inside(udp)
    handle.close()
    reader.join()


def change_queue(handle: Handle) -> None:
    with handle.create_queue(2, accept) as queue:
        queue.set_mode(COPY, 100)
        queue.set_flags(nfq.NFQA_CFG_F_GSO, nfq.NFQA_CFG_F_GSO)
        queue.set_maxlen(10)
        queue.set_verdict_batch(nfq.NF_DROP, 1)


CALLS: dict[str, Callable[[Handle], object]] = {
    "create_queue": change_queue,
    "bind_pf": lambda handle: handle.bind_pf(2),
    "handle_packet": lambda handle: handle.handle_packet(NOOP),
    "process": lambda handle: handle.process(timeout=0),
    "stats": Handle.stats,
    "flush": Handle.flush,
    "rcvbuf": lambda handle: setattr(handle, "rcvbuf", 1 << 20),
    "fork": lambda handle: in_child(handle.close) == 0 or pytest.fail("the child failed"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls(
    handle: Handle, udp: UdpPair, reader: Reader, call: Callable[[Handle], object]
) -> None:
    """Other threads' calls do not wait for its next packet. With that it is inside again."""
    for _ in range(3):
        assert reader.goes_inside(udp)
        call(handle)


@pytest.mark.parametrize("end", [Handle.close, lambda handle: os.close(handle.detach())])
def test_ends(
    handle: Handle, udp: UdpPair, reader: Reader, end: Callable[[Handle], object]
) -> None:
    """Closing and detaching get it out for good."""
    assert reader.goes_inside(udp)
    end(handle)
    reader.join()


def test_strangers_socket(handle: Handle, udp: UdpPair, reader: Reader) -> None:
    """Nothing is sent to get it out once other code has put its own socket there."""
    assert reader.goes_inside(udp)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    number = _ext._fileno(handle)
    with ours, theirs:
        os.dup2(theirs.fileno(), number)
        assert handle.handle_packet(NOOP) == 0
        handle.close()
        reader.join()
        with pytest.raises(BlockingIOError):
            ours.recv(1, socket.MSG_DONTWAIT)
    os.close(number)


PROGRAM = """
import os, sys, threading, time
import libnetfilterqueue as nfq
handle = nfq.open()
handle.create_queue(1, print)
handle_fd = nfq._ext._fileno(handle)

def read():
    try:
        handle.process(timeout=None)
    except (nfq.ClosedError, OSError):
        pass

reader = threading.Thread(target=read, daemon=True)
reader.start()
for _ in range(50):  # it stays there for twice as long
    call = open(f"/proc/self/task/{reader.native_id}/syscall").read().split()
    if call[0] != "running" and call[1] == hex(handle_fd):
        break
    time.sleep(0.001)
if sys.argv[1] == "close":
    os.closerange(3, 100)
    handle.close()
    reader.join()
print("the end")
"""


@pytest.mark.parametrize("ending", ["close", "leave"])
def test_exit(ending: str) -> None:
    """A program ends while a thread waits inside; also if all descriptors were closed behind it."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", PROGRAM, ending],
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.stdout, done.stderr) == ("the end\n", "")
