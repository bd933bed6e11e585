# SPDX-License-Identifier: GPL-2.0-or-later
"""One thread waits in process(timeout=None) while others do everything else, round after round.

All queues here are destroyed with NF_ACCEPT as the default verdict, so that a packet that does not
arrive was lost or is stuck.
"""

import contextlib
import gc
import random
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import pytest
from netns import TIMEOUT, UdpPair, background, queue_rule, short_turns
from queues import ROUNDS, Handle, Packet, Queue, accept, data_of

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
BURST = 6  # packets

Kept = SimpleQueue[Packet]
Call = Callable[[Handle, Queue], object]


@pytest.fixture(autouse=True)
def turns() -> Iterator[None]:
    """Threads take turns as often as they can."""
    with short_turns():
        yield


def create_queue(handle: Handle, callback: Callable[[Packet], None], number: int = 1) -> Queue:
    return handle.create_queue(
        number,
        callback,
        mode=COPY,
        flags=nfq.NFQA_CFG_F_FAIL_OPEN,
        default_verdict=nfq.NF_ACCEPT,
    )


def process_for_ever(handle: Handle) -> None:
    while True:
        handle.process(timeout=None)


def serve(handle: Handle) -> None:
    """Waits and dispatches until the handle is closed."""
    with pytest.raises(ValueError, match="closed"):
        process_for_ever(handle)


@contextlib.contextmanager
def served(handle: Handle, threads: int = 1) -> Iterator[None]:
    """Threads serve the handle for the length of the block, and end when it is closed."""
    serving = [background(serve, handle) for _ in range(threads)]
    try:
        yield
    finally:
        handle.close()
        for waiter in serving:
            waiter.result(TIMEOUT)


def at_once(*calls: Callable[[], object]) -> None:
    """Makes the calls at the same time: the first one here, the others in threads of their own."""
    start = threading.Barrier(len(calls))

    def begin(call: Callable[[], object]) -> None:
        start.wait(TIMEOUT)
        call()

    others = [background(begin, call) for call in calls[1:]]
    begin(calls[0])
    for other in others:
        other.result(TIMEOUT)


def burst(number: int) -> list[bytes]:
    """The data of a round's packets."""
    return [b"%d.%d" % (number, packet) for packet in range(BURST)]


def arriving(udp: UdpPair, count: int) -> list[bytes]:
    return sorted(udp.recv() for _ in range(count))


def accept_if_open(packet: Packet) -> None:
    """Lets a kept packet pass, unless it has passed because its queue was destroyed."""
    with contextlib.suppress(ValueError):
        packet.accept()


def accept_once(packet: Packet) -> None:
    """Lets a packet pass, unless a batch verdict has done that."""
    with contextlib.suppress(nfq.VerdictError):
        packet.accept()


# Beside a thread that waits


def test_verdicts(handle: Handle, udp: UdpPair) -> None:
    """Other threads give the verdicts: each packet gets its own, and only that."""
    kept: SimpleQueue[Packet | None] = SimpleQueue()

    def answer() -> None:
        for packet in iter(kept.get, None):
            packet.accept() if data_of(packet)[-1] % 2 else packet.drop()

    create_queue(handle, kept.put)
    with served(handle):
        answering = [background(answer) for _ in range(3)]
        for number in range(ROUNDS):
            sent = burst(number)
            udp.send(*sent)
            assert arriving(udp, BURST // 2) == sent[1::2]
        for _ in answering:
            kept.put(None)
        for answered in answering:
            answered.result(TIMEOUT)
        assert udp.arrivals() == []
        stats = handle.stats()
    assert (stats.packets, stats.verdicts) == (ROUNDS * BURST,) * 2
    assert (stats.verdict_errors, stats.defaulted) == (0, 0)


def look(handle: Handle, queue: Queue) -> None:
    """Reads all that can be read."""
    before = handle.stats()
    facts = (handle.fd(), handle.rcvbuf, handle.no_enobufs, handle.autoflush, handle.closed)
    assert facts[-2:] == (True, False)
    assert (queue.number, queue.handle, queue.destroyed) == (1, handle, False)
    assert queue.default_verdict == nfq.NF_ACCEPT
    after = handle.stats()
    assert all(now >= then for now, then in zip(after, before, strict=True))
    assert after.verdicts <= after.packets


CALLS: dict[str, Call] = {
    "set_mode": lambda _, queue: queue.set_mode(COPY, 200),
    "set_flags": lambda _, queue: queue.set_flags(nfq.NFQA_CFG_F_GSO, nfq.NFQA_CFG_F_GSO),
    "set_maxlen": lambda _, queue: queue.set_maxlen(2000),
    "bind_pf": lambda handle, _: handle.bind_pf(2),
    "flush": lambda handle, _: handle.flush(),
    "set_verdict_batch": lambda _, queue: queue.set_verdict_batch(nfq.NF_ACCEPT, 1 << 30),
    "process": lambda handle, _: handle.process(),
    "rcvbuf": lambda handle, _: setattr(handle, "rcvbuf", 1 << 18),
    "look": look,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_call(handle: Handle, udp: UdpPair, call: Call) -> None:
    """Two other threads make the same call while packets come: each is dispatched, and passes."""
    queue = create_queue(handle, accept_once)
    with served(handle):
        for number in range(ROUNDS):
            sent = burst(number)
            at_once(
                lambda: call(handle, queue),
                lambda: call(handle, queue),
                lambda: udp.send(*sent),  # noqa: B023
            )
            assert arriving(udp, BURST) == sent
        assert udp.arrivals() == []
        stats = handle.stats()
    assert (stats.packets, stats.verdicts) == (ROUNDS * BURST,) * 2
    assert (stats.verdict_errors, stats.defaulted) == (0, 0)


def test_other_queues(handle: Handle, udp: UdpPair) -> None:
    """Two other threads create and destroy queues of their own while packets come."""
    create_queue(handle, accept)

    def churn(number: int) -> None:
        with create_queue(handle, accept, number) as queue:
            assert queue.number == number

    with served(handle):
        for number in range(ROUNDS):
            sent = burst(number)
            at_once(
                lambda: churn(2),
                lambda: churn(3),
                lambda: udp.send(*sent),  # noqa: B023
            )
            assert arriving(udp, BURST) == sent
        assert udp.arrivals() == []
        stats = handle.stats()
    assert (stats.packets, stats.verdict_errors, stats.defaulted) == (ROUNDS * BURST, 0, 0)


@pytest.mark.parametrize("keeps", [False, True])
def test_destroy(handle: Handle, udp: UdpPair, keeps: bool) -> None:
    """Two other threads destroy the queue while its packets come and get their verdicts."""
    kept: Kept = SimpleQueue()

    def answer() -> None:
        while not kept.empty():
            accept_if_open(kept.get())

    with served(handle):
        for number in range(ROUNDS):
            queue = create_queue(handle, kept.put if keeps else accept)
            sent = burst(number)
            udp.send(*sent)
            at_once(queue.destroy, queue.destroy, answer)
            assert queue.destroyed
            assert arriving(udp, BURST) == sent
            answer()
        assert udp.arrivals() == []
        assert handle.stats().verdict_errors == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_close(udp: UdpPair, threads: int) -> None:
    """Two other threads close the handle while packets come and get their verdicts."""
    for number in range(ROUNDS):
        kept: Kept = SimpleQueue()
        sent = burst(number)

        def answer(kept: Kept = kept) -> None:
            while not kept.empty():
                accept_if_open(kept.get())

        with nfq.open() as handle, served(handle, threads):
            create_queue(handle, kept.put)
            udp.send(*sent)
            at_once(handle.close, handle.close, answer)
            assert arriving(udp, BURST) == sent
            while not kept.empty():
                with pytest.raises((ValueError, nfq.VerdictError)):
                    kept.get().accept()
        assert udp.arrivals() == []


def test_flush(handle: Handle, udp: UdpPair) -> None:
    """Verdicts that are held back are sent once, whoever flushes while others are given."""
    kept: Kept = SimpleQueue()
    held: list[None] = []

    def answer() -> None:
        for _ in range(BURST // 2):
            kept.get(timeout=TIMEOUT).accept()

    create_queue(handle, kept.put)
    handle.autoflush = False
    handle.on_held = lambda: held.append(None)
    with served(handle):
        for number in range(ROUNDS):
            sent = burst(number)
            udp.send(*sent)
            at_once(answer, answer, handle.flush)
            handle.flush()
            assert arriving(udp, BURST) == sent
        assert udp.arrivals() == []
        stats = handle.stats()
    assert len(held) >= ROUNDS // 2
    assert (stats.verdicts, stats.verdict_errors) == (ROUNDS * BURST, 0)


def test_batch(handle: Handle, udp: UdpPair) -> None:
    """Of batch and single verdicts on the same kept packets each packet gets one."""
    kept: Kept = SimpleQueue()

    def answer(packets: list[Packet]) -> None:
        for packet in packets:
            accept_once(packet)

    queue = create_queue(handle, kept.put)
    with served(handle):
        for number in range(ROUNDS):
            sent = burst(number)
            udp.send(*sent)
            packets = [kept.get(timeout=TIMEOUT) for _ in sent]
            middle, last = packets[BURST // 2].id, packets[-1].id
            at_once(
                lambda: queue.set_verdict_batch(nfq.NF_ACCEPT, middle),  # noqa: B023
                lambda: queue.set_verdict_batch(nfq.NF_ACCEPT, last),  # noqa: B023
                lambda: answer(packets),  # noqa: B023
                lambda: answer(packets[::-1]),  # noqa: B023
            )
            assert arriving(udp, BURST) == sent
            assert {packet.verdict for packet in packets} == {nfq.NF_ACCEPT}
        assert udp.arrivals() == []
        stats = handle.stats()
    assert (stats.verdicts, stats.verdict_errors) == (ROUNDS * BURST, 0)


@pytest.mark.usefixtures("little_garbage")
def test_dropped_in_other_threads(handle: Handle, udp: UdpPair) -> None:
    """Packets whose last references go in other threads get the default while others use the
    handle."""
    kept: Kept = SimpleQueue()

    def drop() -> None:
        for _ in range(BURST // 2):
            kept.get(timeout=TIMEOUT)

    queue = create_queue(handle, kept.put)
    with served(handle):
        for number in range(ROUNDS):
            sent = burst(number)
            udp.send(*sent)
            at_once(drop, drop, lambda: queue.set_maxlen(2000), handle.stats)
            gc.collect()  # without the GIL it is left to the thread that made them, which waits
            assert arriving(udp, BURST) == sent
        assert udp.arrivals() == []
        stats = handle.stats()
    assert (stats.defaulted, stats.verdict_errors) == (ROUNDS * BURST, 0)


# Everything at once


class Disorder:
    """A handle, and threads that do at random what can be done with it and its packets."""

    def __init__(self, handle: Handle, udp: UdpPair) -> None:
        self._handle, self._udp = handle, udp
        self._kept: Kept = SimpleQueue()
        self._queues: SimpleQueue[Queue] = SimpleQueue()
        self._creating = threading.Lock()  # what comes before a queue has a mode is dropped
        self.sent: list[bytes] = []
        self._create()

    def run(self, seed: str, steps: int) -> None:
        """Takes steps in an order that the seed determines."""
        chance = random.Random(seed)
        actions = [
            *[self._send] * 8,
            *[self._accept, self._drop] * 3,
            *(self._accept_batch, self._configure, self._replace, self._churn),
            *(self._flush, self._hold, self._process, self._look),
        ]
        for _ in range(steps):
            try:
                chance.choice(actions)()
            except nfq.VerdictError:
                pass  # a batch verdict was faster
            except ValueError as error:
                assert "closed" in str(error) or "destroyed" in str(error)  # noqa: PT017

    def close(self) -> None:
        self._handle.close()

    def callback(self, packet: Packet) -> None:
        if packet.id % 3:
            self._kept.put(packet)
        else:
            accept_once(packet)

    def _create(self) -> None:
        self._queues.put(create_queue(self._handle, self.callback))

    def _send(self) -> None:
        with self._creating:
            data = b"%d" % len(self.sent)
            self._udp.send(data)
            self.sent.append(data)

    def _packet(self) -> Packet | None:
        with contextlib.suppress(Empty):
            return self._kept.get_nowait()
        return None

    def _accept(self) -> None:
        packet = self._packet()
        if packet is not None:
            packet.accept()

    def _drop(self) -> None:
        """Lets go of a packet, which so gets its default verdict."""
        self._packet()

    def _accept_batch(self) -> None:
        packet = self._packet()
        if packet is not None:
            packet.queue.set_verdict_batch(nfq.NF_ACCEPT, packet.id)

    def _configure(self) -> None:
        queue = self._queues.get()
        self._queues.put(queue)
        queue.set_mode(COPY, 100)
        queue.set_flags(nfq.NFQA_CFG_F_GSO, nfq.NFQA_CFG_F_GSO)
        queue.set_maxlen(500)

    def _replace(self) -> None:
        """Destroys the queue and creates it anew; packets meanwhile bypass it."""
        queue = self._queues.get()
        try:
            queue.destroy()
            with self._creating:
                queue = create_queue(self._handle, self.callback)
        finally:
            self._queues.put(queue)

    def _churn(self) -> None:
        number = threading.get_native_id() % 65_000 + 2
        create_queue(self._handle, self.callback, number).destroy()

    def _flush(self) -> None:
        self._handle.flush()

    def _hold(self) -> None:
        self._handle.autoflush = not self._handle.autoflush

    def _process(self) -> None:
        self._handle.process(max_packets=2)

    def _look(self) -> None:
        assert self._handle.stats().verdict_errors == 0


def test_everything_at_once() -> None:
    """Threads do everything at random while another one waits, then all is closed under them."""
    queue_rule(1, bypass=True)
    with UdpPair() as udp:
        for number in range(ROUNDS):
            print(f"seed {number}")
            handle = nfq.open()
            disorder = Disorder(handle, udp)

            def run(thread: int, number: int = number, disorder: Disorder = disorder) -> None:
                disorder.run(f"{number}.{thread}", 40)
                if thread == number % 3:
                    disorder.close()

            with served(handle):
                at_once(*[lambda thread=thread: run(thread) for thread in range(3)])
            assert sorted(udp.arrivals()) == sorted(disorder.sent)
            assert handle.stats().verdict_errors == 0
