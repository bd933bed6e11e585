# SPDX-License-Identifier: GPL-2.0-or-later
"""Where process(timeout=None) waits: inside the system call that receives, as long as it is alone.

Whoever reads too, configures, closes or learns the descriptor gets it out of there first.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from netns import TIMEOUT, UdpPair
from queues import ROUNDS, Handle, Packet, accept
from test_fork import in_child

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext

COPY = nfq.NFQNL_COPY_PACKET


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

    def _waits(self) -> bool | None:
        """Whether it waits inside; None while it runs.

        A system call that receives has the descriptor as its first argument, ppoll an address.
        """
        call = Path(f"/proc/self/task/{self._thread.native_id}/syscall").read_text().split()
        return None if call[0] == "running" else int(call[1], 16) == self._descriptor

    def is_inside(self) -> bool:
        """Whether it waits inside the system call that receives, and has done so for a while."""
        end = time.monotonic() + TIMEOUT
        same, since = self._waits(), time.monotonic()
        while time.monotonic() - since < 0.02 or same is None:
            assert time.monotonic() < end
            time.sleep(0.001)
            if (now := self._waits()) != same:
                same, since = now, time.monotonic()
        return same

    def join(self) -> None:
        """Waits for its end, once the handle is closed."""
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


@pytest.fixture
def reader(handle: Handle) -> Iterator[Reader]:
    """The only one that reads the handle."""
    reader = Reader(handle)
    yield reader
    handle.close()
    reader.join()


def test_alone(handle: Handle, udp: UdpPair, reader: Reader) -> None:
    """It waits inside, and its packets pass as they come."""
    assert reader.is_inside()
    handle.create_queue(1, accept, mode=COPY)
    for number in range(ROUNDS):
        udp.send(b"%d" % number)
        assert udp.recv() == b"%d" % number
    assert reader.is_inside()
    assert handle.stats().packets == ROUNDS


def test_a_limit_of_time(handle: Handle) -> None:
    """One that waits for so long waits on the descriptor."""
    reader = Reader(handle, timeout=TIMEOUT)
    assert not reader.is_inside()
    handle.close()
    reader.join()


@pytest.mark.parametrize("expose", [Handle.fd, Handle.fileno])
def test_exposed(handle: Handle, reader: Reader, expose: Callable[[Handle], object]) -> None:
    """Who knows the descriptor may close it, which nobody hears inside."""
    assert reader.is_inside()
    expose(handle)
    assert not reader.is_inside()


def test_two(handle: Handle, udp: UdpPair, reader: Reader) -> None:
    """Two that read know of each other's messages, which nobody does inside."""
    assert reader.is_inside()
    handle.create_queue(1, accept, mode=COPY)
    other = Reader(handle)
    assert not (reader.is_inside() or other.is_inside())
    for number in range(ROUNDS):
        udp.send(b"%d" % number)
        assert udp.recv() == b"%d" % number
    handle.close()
    other.join()


def test_kept(handle: Handle, udp: UdpPair, reader: Reader) -> None:
    """While a packet is kept its verdict may have to be sent again, and by whom but the reader."""
    kept: SimpleQueue[Packet] = SimpleQueue()
    handle.create_queue(1, lambda packet: kept.put(packet) if keeps else packet.accept(), mode=COPY)
    for keeps in (True, False):
        udp.send(b"first", b"second")
        if keeps:
            packets = [kept.get(timeout=TIMEOUT) for _ in range(2)]
            assert not reader.is_inside()
            for packet in packets:
                packet.accept()
            del packet, packets
        assert [udp.recv(), udp.recv()] == [b"first", b"second"]
    assert reader.is_inside()


def change_queue(handle: Handle) -> None:
    with handle.create_queue(2, accept) as queue:
        queue.set_mode(COPY, 100)
        queue.set_flags(nfq.NFQA_CFG_F_GSO, nfq.NFQA_CFG_F_GSO)
        queue.set_maxlen(10)


CALLS: dict[str, Callable[[Handle], object]] = {
    "create_queue": change_queue,
    "bind_pf": lambda handle: handle.bind_pf(2),
    "handle_packet": lambda handle: handle.handle_packet(b"\x10\0\0\0\1\0" + bytes(10)),
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
    handle.create_queue(1, accept, mode=COPY)
    for number in range(3):
        udp.send(b"%d" % number)
        assert udp.recv() == b"%d" % number
        assert reader.is_inside()
        call(handle)
    assert handle.stats().packets == 3


@pytest.mark.parametrize("end", [Handle.close, lambda handle: os.close(handle.detach())])
def test_ends(handle: Handle, end: Callable[[Handle], object]) -> None:
    """Closing and detaching get it out for good."""
    handle.create_queue(1, accept)
    reader = Reader(handle)
    assert reader.is_inside()
    end(handle)
    reader.join()


PROGRAM = """
import os, sys, threading, time
import libnetfilterqueue as nfq
before = set(os.listdir("/proc/self/fd"))
handle = nfq.open()
handle.create_queue(1, print)
numbers = [int(name) for name in set(os.listdir("/proc/self/fd")) - before]
threading.Thread(target=handle.process, kwargs={"timeout": None}, daemon=True).start()
time.sleep(0.2)
if sys.argv[1] == "close":
    for number in numbers:
        try:
            os.close(number)
        except OSError:
            pass  # the listing's own
    handle.close()
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
