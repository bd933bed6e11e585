# SPDX-License-Identifier: GPL-2.0-or-later
"""Callbacks, hooks, signal handlers and finalizers that use what has called them, again and again.

All queues here have NF_ACCEPT as their default verdict, so that a packet that does not arrive was
lost or is stuck.
"""

import contextlib
import functools
import gc
import itertools
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest
from netns import TIMEOUT, UdpPair, background, short_turns
from played_kernel import packet_message
from queues import ROUNDS, Handle, Packet, Queue, accept, netlink_socket

import libnetfilterqueue as nfq

pytestmark = pytest.mark.usefixtures("little_garbage")

COPY = nfq.NFQNL_COPY_PACKET
SENT = [b"1", b"2", b"3"]

Act = Callable[[Packet], object]


def create_queue(handle: Handle, callback: Callable[[Packet], None], number: int = 1) -> Queue:
    return handle.create_queue(number, callback, mode=COPY, default_verdict=nfq.NF_ACCEPT)


def process(handle: Handle) -> int:
    return handle.process()


def handle_packet(handle: Handle) -> int:
    """Dispatches what waits, as a loop of one's own does."""
    count = 0
    with netlink_socket(handle) as sock, contextlib.suppress(BlockingIOError):
        while not handle.closed:
            count += handle.handle_packet(sock.recv(4096, socket.MSG_DONTWAIT))
    return count


WAYS = pytest.mark.parametrize("dispatch", [process, handle_packet])


# What callbacks do


def reconfigure(packet: Packet) -> None:
    packet.queue.set_mode(COPY, 50 + packet.id)
    packet.queue.set_flags(nfq.NFQA_CFG_F_GSO, nfq.NFQA_CFG_F_GSO)
    packet.queue.set_maxlen(100 + packet.id)
    packet.queue.handle.rcvbuf = 1 << 17


def replace(packet: Packet) -> None:
    """Destroys the queue, if nobody has, and binds its number anew."""
    if not packet.queue.destroyed:
        packet.queue.destroy()
        create_queue(packet.queue.handle, accept)


def churn(packet: Packet) -> None:
    """Another queue comes and goes."""
    with create_queue(packet.queue.handle, accept, 2) as queue:
        assert not queue.destroyed


def malformed(packet: Packet) -> None:
    with pytest.raises(nfq.MalformedMessageError):
        packet.queue.handle.handle_packet(b"no message")


def in_a_thread(act: Act) -> Act:
    """The act in another thread, which the callback waits for."""
    return lambda packet: background(act, packet).result(TIMEOUT)


def keep_and_drop(packet: Packet) -> None:
    """The packet and what refers to it become garbage, and are collected."""
    cycle: list[object] = [packet, packet.payload]
    cycle.append(cycle)
    del cycle
    gc.collect()


def close(packet: Packet) -> None:
    packet.queue.handle.close()


ACTS: dict[str, Act] = {
    "close": close,
    "destroy": lambda packet: packet.queue.destroy(),
    "reconfigure": reconfigure,
    "replace": replace,
    "churn": churn,
    "process": lambda packet: process(packet.queue.handle),
    "handle_packet": lambda packet: handle_packet(packet.queue.handle),
    "malformed": malformed,
    "flush": lambda packet: packet.queue.handle.flush(),
    "batch": lambda packet: packet.queue.set_verdict_batch(nfq.NF_ACCEPT, packet.id),
    "drop": keep_and_drop,
    "close in a thread": in_a_thread(close),
    "process in a thread": in_a_thread(lambda packet: process(packet.queue.handle)),
    "replace in a thread": in_a_thread(replace),
}


ANY_ACT = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)


@WAYS
@ANY_ACT
def test_callback(udp: UdpPair, act: Act, dispatch: Callable[[Handle], int]) -> None:
    """Callbacks act before, after and without giving a verdict: each packet passes once."""

    def before(packet: Packet) -> None:
        act(packet)
        with contextlib.suppress(nfq.VerdictError):  # the act may have given a batch verdict
            packet.accept()

    def after(packet: Packet) -> None:
        packet.accept()
        act(packet)

    turns = itertools.cycle([before, after, act])

    def callback(packet: Packet) -> None:
        next(turns)(packet)

    for _ in range(ROUNDS):
        with nfq.open() as handle:
            create_queue(handle, callback)
            udp.send(*SENT)
            assert dispatch(handle) > 0
        assert sorted(udp.arrivals()) == SENT


def test_any_act_in_any_callback(udp: UdpPair) -> None:
    """Callbacks that act at random, in each other's acts: each packet passes once."""
    for number in range(ROUNDS):
        print(f"seed {number}")
        chance = random.Random(number)

        def callback(packet: Packet, chance: random.Random = chance) -> None:
            for act in chance.sample(list(ACTS.values()), 3):
                with contextlib.suppress(ValueError):  # an earlier one has closed the handle
                    act(packet)

        with nfq.open() as handle:
            create_queue(handle, callback)
            udp.send(*SENT)
            assert process(handle) > 0
        assert sorted(udp.arrivals()) == SENT


@pytest.mark.parametrize("error", [KeyError, SystemExit, KeyboardInterrupt])
def test_callback_that_raises(
    udp: UdpPair, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Exceptions of callbacks come out of the dispatch, or go to a hook, which may close.

    What is no Exception comes out before the next callback, and the hook hears of nothing.
    """
    told: list[int] = []
    kept: list[Packet] = []

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        assert unraisable.exc_value is not None
        told.append(unraisable.exc_value.args[0])
        kept.pop().queue.handle.close()

    def callback(packet: Packet) -> None:
        kept.append(packet)
        raise error(packet.id)

    monkeypatch.setattr(sys, "unraisablehook", hook)
    for _ in range(ROUNDS):
        with nfq.open() as handle:
            create_queue(handle, callback)
            udp.send(*SENT)
            with pytest.raises(error) as raised:
                process(handle)
            assert raised.value.args == (1,)
        assert sorted(udp.arrivals()) == SENT
    assert told == ([2] * ROUNDS if issubclass(error, Exception) else [])


@WAYS
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_last_reference(udp: UdpPair, dispatch: Callable[[Handle], int]) -> None:
    """A callback drops the handle that dispatches: the handle lives until the dispatch is over."""
    handles: list[Handle] = []

    def callback(packet: Packet) -> None:
        handles.clear()
        gc.collect()
        packet.accept()

    for _ in range(ROUNDS):
        handles.append(nfq.open())
        create_queue(handles[0], callback)
        udp.send(*SENT)
        assert dispatch(handles[0]) == len(SENT)
        gc.collect()
        assert udp.arrivals() == SENT


# What signal handlers do


class InterruptError(Exception):
    """What a signal handler raises."""


@contextlib.contextmanager
def handling(handler: Callable[[], object]) -> Iterator[None]:
    """SIGUSR1 calls the handler."""
    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@WAYS
@ANY_ACT
def test_signal_in_a_callback(udp: UdpPair, act: Act, dispatch: Callable[[Handle], int]) -> None:
    """A handler acts in a callback, between its verdict and its return."""
    running: list[Packet] = []

    def callback(packet: Packet) -> None:
        packet.accept()
        running.append(packet)
        signal.raise_signal(signal.SIGUSR1)

    with handling(lambda: act(running.pop())):
        for _ in range(ROUNDS):
            with nfq.open() as handle:
                create_queue(handle, callback)
                udp.send(*SENT)
                dispatched = dispatch(handle)
                state = handle.stats(), nfq.queue_status()
            came = dispatched > 0, sorted(udp.arrivals())
            assert came == (True, SENT), (state, "late:", udp.arrivals())


class Signalling:
    """A verdict that is read with a signal in between."""

    def __index__(self) -> int:
        signal.raise_signal(signal.SIGUSR1)
        return 1


@pytest.mark.parametrize("act", [close, ACTS["destroy"], replace, ACTS["batch"]])
def test_signal_in_set_verdict(udp: UdpPair, act: Act) -> None:
    """A handler acts while a kept packet gets its verdict: that is too late then, and says so."""
    kept: list[Packet] = []
    with handling(lambda: act(kept[0])):
        for _ in range(ROUNDS):
            with nfq.open() as handle:
                create_queue(handle, kept.append)
                udp.send(*SENT)
                assert handle.process() == len(SENT)
                with pytest.raises((ValueError, nfq.VerdictError)):
                    kept[0].set_verdict(Signalling())
            kept.clear()
            assert sorted(udp.arrivals()) == SENT


def wait(handle: Handle, _: list[Packet]) -> None:
    """Waits for a packet that does not come."""
    handle.process(timeout=None)


def receive(handle: Handle, _: list[Packet]) -> None:
    """Waits for it in a loop of one's own, without a socket that a signal could leave open."""
    os.read(handle.fd(), 4096)


def configure(handle: Handle, kept: list[Packet]) -> None:
    while True:
        kept[0].queue.set_maxlen(100)
        create_queue(handle, accept, 2).destroy()


def set_verdicts(_: Handle, kept: list[Packet]) -> None:
    while True:
        for packet in kept:
            with contextlib.suppress(nfq.VerdictError):
                packet.accept()


def dispatch_messages(handle: Handle, _: list[Packet]) -> None:
    while True:
        handle.handle_packet(packet_message(number=3))


def look(handle: Handle, kept: list[Packet]) -> None:
    while True:
        assert handle.stats().packets == len(kept)
        assert kept[0].verdict is None
        handle.fd()


class Signaller:
    """A thread that sends signals to the main thread until they have closed a handle."""

    def __init__(self) -> None:
        self._handles: SimpleQueue[Handle] = SimpleQueue()
        self._closed = threading.Semaphore(0)
        self._sending = background(self._send)

    def _send(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        for _ in range(ROUNDS):
            self._handle = self._handles.get(timeout=TIMEOUT)
            while not self._handle.closed:
                signal.pthread_kill(main, signal.SIGUSR1)
                os.sched_yield()
            self._closed.release()

    def handle_signal(self) -> None:
        """Closes the handle and raises; later signals do nothing."""
        if not self._handle.closed:
            self._handle.close()
            raise InterruptError

    def interrupt(self, handle: Handle, call: Callable[[], object]) -> None:
        """Signals come during the call; afterwards none does."""

        def begin() -> None:
            self._handles.put(handle)
            call()

        with pytest.raises(InterruptError):
            begin()
        assert self._closed.acquire(timeout=TIMEOUT)


@pytest.mark.parametrize("call", [wait, receive, configure, set_verdicts, dispatch_messages, look])
def test_signal_at_any_time(udp: UdpPair, call: Callable[[Handle, list[Packet]], None]) -> None:
    """A signal handler closes the handle at any moment, and raises: so that ends."""
    signaller = Signaller()
    with handling(signaller.handle_signal), short_turns():
        for _ in range(ROUNDS):
            kept: list[Packet] = []
            with nfq.open() as handle:
                create_queue(handle, kept.append)
                udp.send(*SENT)
                assert handle.process() == len(SENT)
                signaller.interrupt(handle, functools.partial(call, handle, kept))
                assert handle.closed
            assert sorted(udp.arrivals()) == SENT


# What hooks do

HOOKS = ("on_held", "on_close", "on_verdict_error")


def clear_hooks(handle: Handle) -> None:
    for name in HOOKS:
        setattr(handle, name, None)


HOOK_ACTS: dict[str, Callable[[Handle], object]] = {
    "close": lambda handle: handle.close(),
    "process": process,
    "handle_packet": handle_packet,
    "flush": lambda handle: handle.flush(),
    "churn": lambda handle: create_queue(handle, accept, 2).destroy(),
    "create": lambda handle: create_queue(handle, accept, 2),
    "collect": lambda _: gc.collect(),
    "clear": clear_hooks,
    "close in a thread": lambda handle: background(handle.close).result(TIMEOUT),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("act", HOOK_ACTS.values(), ids=HOOK_ACTS)
def test_hook(udp: UdpPair, hook: str, act: Callable[[Handle], object]) -> None:
    """A hook acts: while verdicts are held back, after one was refused, before all is closed."""
    called: list[object] = []
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        packet.accept() if packet.id == 1 else kept.append(packet)

    for number in range(ROUNDS):
        with nfq.open() as handle:
            create_queue(handle, callback)
            setattr(handle, hook, lambda *_, handle=handle: called.append(act(handle)))
            udp.send(*SENT)
            with netlink_socket(handle) as sock:
                message = sock.recv(4096)
            handle.handle_packet(message)
            handle.handle_packet(message)  # its verdict is refused
            handle.process()
            with contextlib.suppress(ValueError):  # the hook has closed the handle
                handle.autoflush = False
                for packet in kept:
                    packet.accept()
        kept.clear()
        assert sorted(udp.arrivals()) == SENT
        assert len(called) > number


# What finalizers do


class Finalizer:
    """Acts on a packet when it becomes garbage, in a cycle or not."""

    def __init__(self, packet: Packet, act: Act, cycle: bool) -> None:
        self.packet, self.act, self.itself = packet, act, self if cycle else None

    def __del__(self) -> None:
        with contextlib.suppress(ValueError, nfq.VerdictError):  # another finalizer came first
            self.act(self.packet)


FINALIZER_ACTS: dict[str, Act] = {
    "accept": accept,
    "verdict": lambda packet: packet.verdict,
    **ACTS,
}
ANY_FINALIZER = pytest.mark.parametrize("act", FINALIZER_ACTS.values(), ids=FINALIZER_ACTS)


@ANY_FINALIZER
def test_finalizers_of_packets(udp: UdpPair, act: Act) -> None:
    """A packet's holder acts when it goes, in a callback or later, in a cycle or not."""
    for number in range(ROUNDS):
        kept: list[Finalizer] = []

        def callback(packet: Packet, kept: list[Finalizer] = kept) -> None:
            kept.append(Finalizer(packet, act, cycle=bool(packet.id % 2)))
            if packet.id == 3:
                kept.pop(0)
                gc.collect()

        with nfq.open() as handle:
            create_queue(handle, callback)
            udp.send(*SENT)
            assert handle.process() > 0
            kept.clear()
            if number % 2:
                gc.collect()
        gc.collect()
        assert sorted(udp.arrivals()) == SENT


class Keeper:
    """A callback that keeps all packets, in cycles with the handle."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._kept: list[Finalizer] = []

    def __call__(self, packet: Packet) -> None:
        self._kept.append(Finalizer(packet, self._act, cycle=True))


@ANY_FINALIZER
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_finalizers_in_the_handles_cycle(udp: UdpPair, act: Act) -> None:
    """Finalizers act while handle, queue, packets and themselves are collected together."""
    for _ in range(ROUNDS):
        handle = nfq.open()
        create_queue(handle, Keeper(act))
        udp.send(*SENT)
        assert handle.process() == len(SENT)
        del handle
        gc.collect()
        assert sorted(udp.arrivals()) == SENT


class Callback(Finalizer):
    """A callback that acts on its last packet when its queue lets it go."""

    def __init__(self, act: Act) -> None:
        self.act = act

    def __call__(self, packet: Packet) -> None:
        self.packet = packet


@ANY_FINALIZER
def test_finalizers_of_callbacks(udp: UdpPair, act: Act) -> None:
    """A callback acts when its queue is destroyed, and so lets it go."""
    for _ in range(ROUNDS):
        with nfq.open() as handle:
            queue = create_queue(handle, Callback(act))
            udp.send(*SENT)
            assert handle.process() == len(SENT)
            queue.destroy()
        assert sorted(udp.arrivals()) == SENT


class Payload(bytes):
    """A payload that acts when it is let go."""

    packet: Packet
    act: Act

    def __del__(self) -> None:
        with contextlib.suppress(ValueError, nfq.VerdictError):
            type(self).act(self.packet)


@ANY_FINALIZER
def test_finalizers_of_payloads(udp: UdpPair, act: Act) -> None:
    """A payload acts when it has been sent, or has been replaced, or never will be sent."""

    class Acting(Payload):
        pass

    Acting.act = staticmethod(act)

    def give(packet: Packet) -> None:
        payload = Acting(packet.get_payload())
        payload.packet = packet
        with contextlib.suppress(ValueError, nfq.VerdictError):  # another has acted
            packet.accept(payload=payload)

    def give_twice(packet: Packet) -> None:
        give(packet)
        give(packet)

    def give_and_destroy(packet: Packet) -> None:
        give(packet)
        packet.queue.destroy()

    kept: list[Packet] = []
    turns = itertools.cycle([give, give_twice, give_and_destroy, kept.append])

    def callback(packet: Packet) -> None:
        next(turns)(packet)

    for _ in range(ROUNDS):
        with nfq.open() as handle:
            create_queue(handle, callback)
            udp.send(*SENT)
            assert handle.process() > 0
            for packet in kept:
                give(packet)
            kept.clear()
        assert sorted(udp.arrivals()) == SENT
