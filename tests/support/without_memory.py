# SPDX-License-Identifier: GPL-2.0-or-later
"""A program whose allocations fail, one after the other, while it handles packets.

    without_memory.py SCENARIO LAST

Runs a scenario again and again: the first time its first allocation fails, then its second, until
it needs no more. With LAST "once" no other fails; with "on" all after it do. STEPS says how many
are left out. Prints as JSON how many allocations there are, how many were tried, what was raised,
and after which failures something was never freed.
failing_malloc.c has to be preloaded.
"""

import contextlib
import ctypes
import functools
import gc
import importlib.util
import json
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ledger import newer
from played_kernel import (
    MSG_VERDICT,
    NFQA_CT,
    NFQA_IFINDEX_INDEV,
    NFQA_VLAN,
    PlayedKernel,
    aligned,
    attribute,
    error_message,
    packet_message,
)
from queues import ROUNDS, Packet

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext

ENOENT = 2
EVER = 1 << 40
# The first failures that are tried are so far apart.
STEPS = {"once": max(1, 200 // ROUNDS), "on": max(5, 1000 // ROUNDS)}
FIRST_HELD = 18  # the id from which on all packets are kept
LOOPBACK = 1  # the index of its device
# Of a tuple and a mask that say nothing.
EXPECTATION = attribute(2, bytes(4)) + attribute(3, bytes(4)) + attribute(4, bytes(100))

libc = ctypes.CDLL(None)


class Stop(BaseException):
    """Leaves the call that dispatches at once."""


@contextlib.contextmanager
def unsaid() -> Iterator[None]:
    """Python itself may forget to say why it could not make an object."""
    try:
        yield
    except SystemError as error:
        if "without setting an exception" not in str(error):
            raise


class Trial:
    """One run of a scenario, in which allocations fail."""

    def __init__(self, raised: set[str]) -> None:
        self.raised = raised
        self.errors: list[MemoryError] = []

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """What does not succeed says why, and what comes next is tried all the same."""
        try:
            yield
        except MemoryError as error:
            self.raised.add("MemoryError")
            self.errors.append(error)
        except OSError as error:
            self.raised.add(f"errno {error.errno}")

    def forget(self) -> None:
        """Python's last MemoryError is used again and again, and would keep all that it met."""
        for error in self.errors:
            error.__traceback__ = error.__context__ = None
        self.errors.clear()


@functools.cache
def packet(packet_id: int) -> bytes:
    """A packet with attributes that take objects to show."""
    nested = attribute(8, bytes(4)) + attribute(22, bytes(16)), attribute(1, bytes(2))
    index = attribute(NFQA_IFINDEX_INDEV, struct.pack("!I", LOOPBACK))
    more = attribute(NFQA_CT, nested[0]), attribute(NFQA_VLAN, nested[1]), index
    return packet_message(packet_id, b"payload", *more)


class Traffic:
    """Packets of a played kernel, in whose callbacks and after which much is called."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.kept: list[Packet] = []
        self.sent = 0
        self.reports = 0  # of verdicts that were refused
        self.stops = 0  # the id of the packet whose callback leaves at once
        self.seen: set[int] = set()
        self.unanswered: set[int] = set()

    def send(self, kernel: PlayedKernel, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            self.unanswered.add(self.sent)
            kernel.socket.send(packet(self.sent))

    def callback(self, packet: Packet) -> None:
        self.seen.add(packet.id)
        if packet.id == 1:
            self.look(packet)
        with self.trial.step():
            self.decide(packet)
        if packet.id == self.stops:
            raise Stop

    def look(self, packet: Packet) -> None:
        for name in ("payload", "conntrack", "vlan", "hook", "skb_info", "verdict", "timestamp"):
            with self.trial.step():
                getattr(packet, name)
        with self.trial.step():
            packet.get_payload()
        with self.trial.step():
            packet.indev_name()
        with self.trial.step():
            repr(packet)

    def decide(self, packet: Packet) -> None:
        way = packet.id % 5 if packet.id < FIRST_HELD else 3
        if way == 0:
            packet.set_verdict(nfq.NF_ACCEPT, payload=bytearray(b"payload"), vlan=(1, 2))
        elif way == 1:
            packet.set_verdict(nfq.NF_ACCEPT, packet.id, vlan=(1, 2), ct_mark=3)
        elif way == 2:
            self.kept.append(packet)
            packet.accept()
        elif way == 3:
            self.kept.append(packet)

    def run(self, kernel: PlayedKernel) -> None:
        """Each call, while allocations fail."""
        handle, step = kernel.handle, self.trial.step
        queues: list[Any] = []
        with step():
            queues.append(handle.create_queue(1, self.callback, mode=nfq.NFQNL_COPY_PACKET))
        if not queues:
            return
        with step():
            handle.create_queue(2, self.callback).destroy()
        self.send(kernel, 6)
        with step():
            handle.process()
        self.send(kernel, 6)
        with step():
            queues[0].set_maxlen(1000)
        with step():
            handle.process()
        self.sent += 5
        self.ids = range(self.sent - 4, self.sent + 1)
        self.unanswered.update(self.ids)
        with step():
            self.hand_in(kernel)
        with step(), contextlib.suppress(nfq.MalformedMessageError):
            handle.handle_packet(b"malformed")
        self.refuse(kernel)
        self.stop(kernel)
        with step():
            queues[0].set_verdict_batch(nfq.NF_ACCEPT, 5)
        self.hold(kernel)
        with step():
            handle.stats()

    def hand_in(self, kernel: PlayedKernel) -> None:
        """What another reader has read, in one buffer."""
        data = b"".join(aligned(packet(packet_id)) for packet_id in self.ids)
        kernel.handle.handle_packet(data)

    def report(self) -> bytes:
        """That the kernel has refused a verdict."""
        self.reports += 1
        return error_message(ENOENT, struct.pack("=IHHII", 16, MSG_VERDICT, 0, 1, 0))

    def refuse(self, kernel: PlayedKernel) -> None:
        """The hook is told, or at least the counter."""
        kernel.socket.send(self.report())
        with self.trial.step():
            kernel.handle.process()

    def stop(self, kernel: PlayedKernel) -> None:
        """The same of a report behind a packet whose callback leaves at once."""
        self.sent += 1
        self.unanswered.add(self.sent)
        self.stops = self.sent
        kernel.socket.send(aligned(packet(self.sent)) + self.report())
        with self.trial.step(), contextlib.suppress(Stop), unsaid():
            kernel.handle.process()
        self.stops = 0

    def hold(self, kernel: PlayedKernel) -> None:
        """So many verdicts wait that they take more memory."""
        kernel.handle.autoflush = False
        self.send(kernel, 24)
        with self.trial.step():
            kernel.handle.process()
        for number, packet in enumerate(list(self.kept)):
            with self.trial.step(), contextlib.suppress(nfq.VerdictError):
                packet.set_verdict(
                    nfq.NF_ACCEPT,
                    number,
                    vlan=(1, 2),
                    ct_mark=1,
                    ct_labels=b"labels",
                    expectation=EXPECTATION,
                )
        with self.trial.step():
            kernel.handle.flush()

    def answer(self, messages: list[bytes]) -> None:
        """Each packet has one verdict, and none that is still to be given has any."""
        for sent in PlayedKernel.read(messages):
            if sent.number != 1:
                continue
            covered = {sent.packet_id} if not sent.batch else set(self.unanswered)
            covered = {number for number in covered if not newer(number, sent.packet_id)}
            assert sent.batch or covered <= self.unanswered, sent
            self.unanswered -= covered

    def finish(self, kernel: PlayedKernel) -> None:
        """There is memory again: what waits is handled, and then nothing waits any more."""
        handle = kernel.handle
        while handle.process():
            pass
        self.trial.forget()
        gc.collect()  # an exception may hold its packet in a cycle
        handle.flush()
        self.answer(kernel.received())
        if not self.seen & set(self.ids) and self.unanswered >= set(self.ids):
            self.hand_in(kernel)  # there was not even memory to look into the buffer
        self.answer(kernel.received())
        for packet in self.kept:
            assert (packet.verdict is None) == (packet.id in self.unanswered), packet
            if packet.verdict is None:
                packet.drop()
        handle.flush()
        self.answer(kernel.received())
        assert not self.unanswered, self.unanswered
        assert handle.stats().verdict_errors == self.reports
        handle.close()


def traffic(trial: Trial, failing: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    """Packets and their verdicts."""
    run = Traffic(trial)
    told: list[object] = []
    with PlayedKernel() as kernel, kernel.answering():
        kernel.handle.on_verdict_error = lambda *arguments: told.append(arguments[1])
        with failing():
            run.run(kernel)
        if run.sent:
            run.finish(kernel)


def opening(trial: Trial, failing: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    """A handle in the own namespace, and in another one."""
    with failing():
        for netns in (None, "/proc/self/ns/net"):
            with trial.step(), nfq.open(netns=netns) as handle:
                with trial.step():
                    handle.create_queue(1, print).destroy()
                with trial.step():
                    repr(handle)
        with trial.step(), contextlib.suppress(PermissionError):
            nfq.queue_status()


def importing(trial: Trial, failing: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    """The extension's module, once more."""
    spec = importlib.util.spec_from_file_location(_ext.__name__, _ext.__file__)
    assert spec is not None
    assert spec.loader is not None
    with failing(), trial.step(), unsaid():
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


SCENARIOS = {"traffic": traffic, "opening": opening, "importing": importing}


def trial(name: str, first: int, last: int, raised: set[str]) -> int:
    """Runs a scenario in which those allocations fail; returns how many there were."""
    count = 0

    @contextlib.contextmanager
    def failing() -> Iterator[None]:
        nonlocal count
        libc.failing_malloc_begin(ctypes.c_long(first), ctypes.c_long(last))
        try:
            yield
        finally:
            count = libc.failing_malloc_end()

    one = Trial(raised)
    SCENARIOS[name](one, failing)
    one.forget()
    gc.collect()  # for the next one, and its table of what is alive
    return count


def live() -> int:
    """How many allocations of the extension are alive."""
    gc.collect()
    return int(libc.failing_malloc_live())


def fail(name: str, number: int, last: str, raised: set[str]) -> int:
    """Runs a scenario in which this allocation fails, and perhaps all after it."""
    return trial(name, number, number if last == "once" else EVER, raised)


def grows(name: str, number: int, last: str, raised: set[str]) -> bool:
    """Whether that leaves anything behind."""
    before = live()
    fail(name, number, last, raised)
    return live() > before


def main(name: str, last: str) -> None:
    libc.failing_malloc_end.restype = libc.failing_malloc_live.restype = ctypes.c_long
    sys.setswitchinterval(1e-5)  # the kernel is played by a thread
    sys.unraisablehook = lambda _: None  # what hooks raise
    raised: set[str] = set()
    [MemoryError() for _ in range(16)]  # Python keeps so many, to be used again
    trial(name, EVER, EVER, raised)  # what is made once, is
    gc.freeze()  # so that collecting takes no time
    leaks = []
    tried = 0
    number = 1
    while (count := fail(name, number, last, raised)) >= number:
        # What is made once may be made only now: a leak grows each time.
        if all(grows(name, number, last, raised) for _ in range(3)):
            leaks.append(number)
        tried += 1
        number += STEPS[last]
    print(json.dumps({"count": count, "tried": tried, "raised": sorted(raised), "leaks": leaks}))


if __name__ == "__main__":
    main(*sys.argv[1:])
