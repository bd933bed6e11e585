# SPDX-License-Identifier: GPL-2.0-or-later
"""What the garbage collector sees: no object disappears that is in use, and none stays."""

import gc
import operator
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from netns import TIMEOUT, queue_rule
from played_kernel import PlayedKernel, packet_message
from queues import Packet
from test_fork import in_child

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Garbage of other tests is no part of these."""
    gc.collect()
    yield
    gc.collect()


class Finalizer:
    """Garbage whose finalizer lets other threads run until it is told to end."""

    def __init__(self) -> None:
        self.me = self
        self.began, self.go_on = threading.Event(), threading.Event()

    def __del__(self) -> None:
        self.began.set()
        self.go_on.wait(TIMEOUT)


class CollectingReader:
    """Reads an attribute in a thread, with a collection wherever an object is made meanwhile.

    Up to Python 3.11 it runs in the middle of that.
    """

    def __init__(self, read: Callable[[Packet], object]) -> None:
        self._read = read
        garbage = Finalizer()
        self._began, self._go_on = garbage.began, garbage.go_on
        self._packets: list[Packet] = []
        self._shared = threading.Event()
        self._values: list[Any] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._shared.wait(TIMEOUT)
        thresholds = gc.get_threshold()
        gc.set_threshold(1, 1, 1)
        value = self._read(self._packets[0])
        gc.set_threshold(*thresholds)
        self._began.set()
        self._values.append(value)

    def callback(self, packet: Packet) -> None:
        """Returns while the reader is in the middle of the first packet's attribute."""
        if not self._packets:
            self._packets.append(packet)
            self._shared.set()
            self._began.wait(TIMEOUT)

    def value(self) -> object:
        """What it has read, in the end."""
        self._go_on.set()
        self._thread.join(TIMEOUT)
        (value,) = self._values
        return bytes(value) if isinstance(value, memoryview) else value


READERS: dict[str, Callable[[Packet], Any]] = {
    "payload": operator.attrgetter("payload"),
    "get_payload": Packet.get_payload,
    "get_timestamp": Packet.get_timestamp,
    "conntrack": operator.attrgetter("conntrack"),
    "vlan": operator.attrgetter("vlan"),
}


@pytest.mark.parametrize("name", READERS)
def test_packet_that_is_kept_meanwhile(nfqueue: FakeKernel, name: str) -> None:
    """A packet's callback returns while another thread reads from it: it reads that packet."""
    read = READERS[name]
    reader = CollectingReader(read)
    flags = nfq.NFQA_CFG_F_CONNTRACK
    with nfq.open() as handle:
        handle.create_queue(1, reader.callback, flags=flags)
        for number in (1, 2):  # the second one goes where the first one was
            nfqueue.enqueue(
                b"%d" % number * 1000,
                timestamp=float(number),
                conntrack={"id": number, "mark": number},
            )
            handle.process()
        value = reader.value()
        own = read(reader._packets[0])
        assert value == (bytes(own) if isinstance(own, memoryview) else own)
        reader._packets.clear()


def test_buffer_that_is_let_go_meanwhile() -> None:
    """A reader reads the right packet also if its buffer goes as the callback returns."""
    payload = bytes(60_000)
    reader = CollectingReader(READERS["payload"])
    with PlayedKernel() as kernel:
        kernel.create_queue(1, reader.callback)
        kernel.handle.handle_packet(bytearray(packet_message(1, payload)))
        others = [bytearray(b"Z" * 60_200) for _ in range(50)]
        assert reader.value() == payload
        assert len(others) == 50
        reader._packets.clear()


# Cycles


# The extension once more, as another interpreter has it: its handle receives packets in both ways,
# and what is kept of them is its own. In a process without threads: where one was started, some
# free-threaded Pythons keep all modules and types for ever.
ANOTHER_MODULE = """
import gc, importlib.util, os, socket, sys, weakref
from libnetfilterqueue import _ext

def another_module():
    spec = importlib.util.spec_from_file_location("_ext", _ext.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def use(module, keep):
    handle = module.open()
    module.kept = [handle]
    handle.create_queue(1, lambda packet: module.kept.append(keep(packet)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(2):
            sock.sendto(b"data", ("127.0.0.1", 9))
    assert handle.process(1, timeout=30) == 1
    with socket.socket(fileno=os.dup(handle.fd())) as sock:
        handle.handle_packet(bytearray(sock.recv(1 << 16)))
    handle.close()
    assert len(module.kept) == 3

module = another_module()
gone = weakref.ref(module)
use(module, eval(sys.argv[1]))
del module
gc.collect()
gc.collect()
assert gone() is None, gc.get_referrers(gone())
"""

KEPT = {
    "nothing": "lambda packet: packet.id",
    "packet": "lambda packet: packet",
    "view": "lambda packet: packet.payload",
    "packet and view": "lambda packet: (packet, packet.payload)",
    "queue": "lambda packet: packet.queue",
}


@pytest.mark.parametrize("kind", KEPT)
def test_module(kind: str) -> None:
    """What a module's objects hold can be collected with it: they pin no type of its."""
    queue_rule(1, "-p udp --dport 9")
    program = [sys.executable, "-P", "-W", "error", "-c", ANOTHER_MODULE, KEPT[kind]]
    subprocess.run(program, check=True, timeout=TIMEOUT)


class Token:
    """What tells whether what holds it is gone."""


class Payload(bytes):
    """Bytes with attributes."""

    packet: Packet
    token: Token


def payload_of(packet: Packet) -> tuple[Payload, weakref.ref[Token]]:
    """One that holds its packet."""
    payload = Payload(b"changed")
    payload.packet = packet
    payload.token = Token()
    return payload, weakref.ref(payload.token)


def test_held_payload(nfqueue: FakeKernel) -> None:
    """A payload that waits to be sent may be derived from bytes: no more than its bytes is held."""
    packets: list[Packet] = []
    with nfq.open() as handle:
        handle.autoflush = False
        handle.create_queue(1, packets.append)
        sent = nfqueue.enqueue(b"data")
        handle.process()
        payload, gone = payload_of(packets.pop())
        payload.packet.accept(payload=payload)
        del payload
        gc.collect()
        assert gone() is None
        handle.flush()
        assert (sent.passed, sent.payload) == (True, b"changed")


def test_payload_that_is_never_sent(nfqueue: FakeKernel) -> None:
    """A payload is released also if a batch verdict comes before what the callback recorded."""
    tokens: list[weakref.ref[Token]] = []

    def callback(packet: Packet) -> None:
        payload, gone = payload_of(packet)
        tokens.append(gone)
        packet.accept(payload=payload)
        packet.queue.set_verdict_batch(nfq.NF_DROP, packet.id)

    with nfq.open() as handle:
        handle.create_queue(1, callback)
        sent = nfqueue.enqueue(b"data")
        handle.process()
        gc.collect()
        assert [gone() for gone in tokens] == [None]
        assert not sent.passed


def test_hook_in_a_child() -> None:
    """A handle that is its own hook is collected in a child of fork as it is in the parent."""

    def handles() -> int:
        gc.collect()
        return sum(type(each) is nfq.NetfilterQueueHandle for each in gc.get_objects())

    def open_one() -> None:
        handle = nfq.open()
        handle.on_close = handle.close
        handle.on_held = handle.flush
        held.append(handle)

    def child() -> None:
        held.clear()
        assert handles() == before

    held: list[nfq.NetfilterQueueHandle] = []
    before = handles()
    open_one()
    assert in_child(child) == 0
    held.pop().close()
    assert handles() == before
