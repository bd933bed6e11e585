# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.open_queue: streams for programs without a loop, at their edges."""

import contextlib
import gc
import itertools
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from netns import TIMEOUT, Namespace, UdpPair, background, queue_rule, short_turns
from played_kernel import PlayedKernel, packet_message
from queues import Handle, Packet, accept, data_of
from signals import soon

import libnetfilterqueue as nfq
from libnetfilterqueue import PacketStream, open_queue
from libnetfilterqueue._feed import RETRY
from libnetfilterqueue._turns import Turns


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No descriptor is left by the test."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()  # without the GIL, what another thread has had last may live on
    assert set(os.listdir("/proc/self/fd")) <= before  # an earlier test's garbage may go meanwhile


@pytest.fixture
def stream(udp: UdpPair, nothing_left: None) -> Iterator[PacketStream]:
    """A stream of what `udp` sends."""
    with open_queue(1) as stream:
        yield stream


# Reading


def test_stream(stream: PacketStream, udp: UdpPair) -> None:
    """Packets come by iteration, one by one, and in batches."""
    udp.send(b"1", b"2", b"3", b"4", b"5", b"6")
    seen: list[bytes] = []
    for packet in stream:
        seen.append(data_of(packet))
        packet.accept()
        if len(seen) == 2:
            break
    rest = [next(stream), stream.get(), *stream.get_batch(1), *stream.get_batch()]
    assert [data_of(packet) for packet in rest] == [b"3", b"4", b"5", b"6"]
    for packet in rest:
        packet.accept()
    assert seen == [b"1", b"2"]
    assert len(udp.arrivals()) == 6


def test_many(stream: PacketStream, udp: UdpPair) -> None:
    """Packets of several batches come in order; a batch takes two system calls."""
    udp.send(*[b"%d" % number for number in range(80)])
    for number, packet in enumerate(stream):
        assert data_of(packet) == b"%d" % number
        packet.accept()
        if number == 79:
            break
    stats = stream.handle.stats()
    assert (stats.receives, stats.verdicts) == (2, 80)
    assert len(udp.arrivals()) == 80


def test_packet_is_nobody_elses(udp: UdpPair) -> None:
    """A packet that its reader drops has its default verdict at once, not with the next one."""
    with open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        udp.send(b"1", b"2")
        for packet in stream:
            del packet
            assert udp.arrivals() == [b"1"]
            break


Read = Callable[[PacketStream], Packet]


def iterate(stream: PacketStream) -> Packet:
    for packet in stream:
        return packet
    raise nfq.ClosedError("the stream is stopped or the stream is closed")


READS: list[Read] = [PacketStream.get, iterate, lambda stream: stream.get_batch(1)[0]]


@pytest.mark.parametrize("read", READS)
def test_waiting(stream: PacketStream, udp: UdpPair, read: Read) -> None:
    """A reader waits for its packet, and releases the GIL meanwhile."""
    reading = background(read, stream)
    time.sleep(0.01)  # so that it waits, most of the time
    udp.send(b"data")
    reading.result(TIMEOUT).accept()
    assert udp.recv() == b"data"


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_timeout(stream: PacketStream, udp: UdpPair, timeout: float) -> None:
    """What is waited for and does not come in time is a TimeoutError; what is there is in time."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        stream.get(timeout)
    with pytest.raises(TimeoutError):
        stream.get_batch(timeout=timeout)
    assert time.monotonic() - began >= 2 * timeout
    udp.send(b"1", b"2")
    stream.get(timeout).accept()
    stream.get_batch(64, timeout)[0].accept()
    assert udp.arrivals() == [b"1", b"2"]


def test_long_timeout(stream: PacketStream, udp: UdpPair) -> None:
    """A timeout may be longer than the system's own."""
    udp.send(b"data")
    for timeout in (1e12, float("inf"), None):
        udp.send(b"data")
        stream.get(timeout=timeout).accept()


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_bad_timeout(stream: PacketStream, timeout: float, error: type[Exception]) -> None:
    """A timeout is None or a number that is not below 0."""
    for call in (stream.get, stream.get_batch):
        with pytest.raises(error, match=rf"{call.__name__}\(\): timeout must be"):
            call(timeout=timeout)


def test_get_nowait(stream: PacketStream, udp: UdpPair) -> None:
    """get_nowait reads what is there; qsize is what has been read and not fetched."""
    with pytest.raises(queue.Empty):
        stream.get_nowait()
    udp.send(b"1", b"2")
    assert data_of(stream.get_nowait()) == b"1"
    assert stream.qsize() == 1
    assert data_of(stream.get_nowait()) == b"2"
    stream.close()
    with pytest.raises(nfq.ClosedError, match=r"get_nowait\(\): the stream is closed"):
        stream.get_nowait()


def test_pause(stream: PacketStream, udp: UdpPair) -> None:
    """While a stream is paused packets wait in the kernel, and its readers wait too."""
    udp.send(b"1", b"2")
    stream.get().accept()
    stream.pause()
    udp.send(b"3")
    stream.get().accept()
    with pytest.raises(queue.Empty):
        stream.get_nowait()
    reading = background(stream.get)
    with pytest.raises(TimeoutError):
        reading.result(0.02)
    stream.resume()
    reading.result(TIMEOUT).accept()
    assert udp.arrivals() == [b"1", b"2", b"3"]


def test_pause_who_waits(stream: PacketStream, udp: UdpPair) -> None:
    """A reader that waits when the stream is paused gets nothing before it goes on."""
    reading = background(stream.get)
    time.sleep(0.01)  # so that it waits, most of the time
    stream.pause()
    udp.send(b"1")
    with pytest.raises(TimeoutError):
        reading.result(0.02)
    stream.resume()
    reading.result(TIMEOUT).accept()


# When verdicts leave


def test_last_verdict_leaves_at_once(stream: PacketStream, udp: UdpPair) -> None:
    """A verdict waits for others while packets wait; the last one takes them with it."""
    udp.send(b"1", b"2", b"3")
    packet = stream.get()
    stream.handle.hold_limit = TIMEOUT  # a busy machine may take longer than 1 ms
    packet.accept()
    stream.get().accept()
    assert udp.arrivals() == []
    stream.get().accept()
    assert udp.arrivals() == [b"1", b"2", b"3"]
    assert stream.handle.stats().sends == 1


def test_old_verdict_leaves(stream: PacketStream, udp: UdpPair) -> None:
    """A verdict that is given more than 1 ms later takes the older ones with it."""
    udp.send(b"1", b"2", b"3", b"4")
    first, second = stream.get(), stream.get()
    first.accept()
    time.sleep(0.0011)
    second.accept()
    assert udp.arrivals() == [b"1", b"2"]


def test_slow_reader(stream: PacketStream, udp: UdpPair) -> None:
    """The verdicts of a reader that takes long for each packet leave when they are given."""
    udp.send(*[b"%d" % number for number in range(5)])
    for number in range(5):
        packet = stream.get()
        time.sleep(0.0011)
        packet.accept()
        assert udp.arrivals() == [b"%d" % number]


def test_held_before_a_wait(stream: PacketStream, udp: UdpPair) -> None:
    """A reader that finds no packet sends what is held, whoever has the last packet."""
    udp.send(b"1", b"2")
    first = stream.get()
    stream.handle.hold_limit = TIMEOUT  # a busy machine may take longer than 1 ms
    first.accept()
    second = stream.get()
    assert udp.arrivals() == []
    with pytest.raises(TimeoutError):
        stream.get(timeout=0)
    assert udp.arrivals() == [b"1"]
    second.accept()
    assert udp.arrivals() == [b"2"]


def test_no_room_for_a_verdict() -> None:
    """A verdict that can't be sent is an OSError where it is given, and is not lost."""
    with PlayedKernel() as kernel, pytest.MonkeyPatch.context() as patch:
        patch.setattr(nfq, "open", lambda **_: kernel.handle)
        stream = open_queue(1)
        with kernel.answering():
            stream.__enter__()
        kernel.socket.send(packet_message())
        packet = stream.get(TIMEOUT)
        with kernel.deaf(), pytest.raises(BlockingIOError):
            packet.accept()
        with pytest.raises(TimeoutError):
            stream.get(timeout=0)
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1]
        with kernel.answering():
            stream.close()


def test_stopped_without_room() -> None:
    """A stream that can't send a verdict is stopped all the same, and says so."""
    with PlayedKernel() as kernel:
        stream = open_queue(1, handle=kernel.handle)
        with kernel.answering():
            stream.__enter__()
        kernel.socket.send(packet_message())
        packet = stream.get(TIMEOUT)
        with kernel.deaf():
            with pytest.raises(BlockingIOError):
                packet.accept()
            with pytest.raises(BlockingIOError):
                stream.stop()
        assert list(stream) == []
        with kernel.answering():
            stream.close()


def test_default_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that waits tries again, now and then, what another thread's packet left behind."""
    tries: list[float] = []
    tried = threading.Event()
    retry = Turns._retry

    def noted_retry(feed: Turns) -> None:
        tries.append(time.monotonic())
        retry(feed)
        if len(tries) == 3:
            tried.set()

    monkeypatch.setattr(Turns, "_retry", noted_retry)
    with PlayedKernel() as kernel:
        stream = open_queue(1, handle=kernel.handle)
        with kernel.answering():
            stream.__enter__()
        kernel.received()
        kernel.socket.send(packet_message(1))
        packets = [stream.get(TIMEOUT)]
        waiting = background(stream.get)
        time.sleep(0.01)  # so that it waits, most of the time
        with kernel.deaf():
            packets.clear()
            assert tried.wait(TIMEOUT)
        assert tries[2] - tries[0] > RETRY
        assert select.select([kernel.socket], [], [], TIMEOUT)[0]
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1]
        kernel.socket.send(packet_message(2))
        assert waiting.result(TIMEOUT).id == 2
        with kernel.answering():
            stream.close()


# The end

ACTS: dict[str, Callable[[PacketStream], object]] = {
    "close": lambda stream: stream.close(),
    "close-handle": lambda stream: stream.handle.close(),
    "stop": lambda stream: stream.stop(),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("paused", [False, True])
def test_ended_by_another_thread(stream: PacketStream, act: str, paused: bool) -> None:
    """Another thread ends iteration, and a get that waits, of all threads."""
    if paused:
        stream.pause()
    iterating = [background(list[Packet], stream) for _ in range(2)]
    getting = background(stream.get)
    time.sleep(0.01)  # so that they wait, most of the time
    ACTS[act](stream)
    for reading in iterating:
        assert reading.result(TIMEOUT) == []
    with pytest.raises(nfq.ClosedError, match="stopped" if act == "stop" else "closed"):
        getting.result(TIMEOUT)
    assert stream.closed == (act != "stop")


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("paused", [False, True])
def test_ended_by_a_signal_handler(stream: PacketStream, act: str, paused: bool) -> None:
    """A signal handler ends iteration at once."""
    if paused:
        stream.pause()
    with soon(lambda: ACTS[act](stream)):
        assert list(stream) == []
    assert stream.closed == (act != "stop")
    with pytest.raises(nfq.ClosedError, match="stopped" if act == "stop" else "closed"):
        stream.get()


def test_signal_handler_while_others_read(stream: PacketStream, udp: UdpPair) -> None:
    """A signal handler ends the wait of a thread that only waits for another one to read."""
    reading = background(list[Packet], stream)
    time.sleep(0.01)  # so that it has the turn, most of the time
    with soon(stream.stop):
        assert list(stream) == []
    assert reading.result(TIMEOUT) == []


@pytest.mark.parametrize("others", [0, 2])
def test_interrupted(udp: UdpPair, nothing_left: None, others: int) -> None:
    """Ctrl-C raises KeyboardInterrupt at once; the packets that were read are settled."""
    kept: list[Packet] = []
    threads: list[Future[list[Packet]]] = []

    def read(stream: PacketStream) -> None:
        with stream:
            udp.send(b"1", b"2", b"3")
            kept.append(stream.get())
            stream.get_batch()
            threads.extend(background(list[Packet], stream) for _ in range(others))
            with soon(lambda: signal.raise_signal(signal.SIGINT)):
                list(stream)

    began = time.monotonic()
    stream = open_queue(1, default_verdict=nfq.NF_ACCEPT)
    with pytest.raises(KeyboardInterrupt):
        read(stream)
    assert time.monotonic() - began < TIMEOUT / 2
    assert stream.closed
    assert kept[0].verdict is nfq.NF_ACCEPT
    assert sorted(udp.arrivals()) == [b"1", b"2", b"3"]
    for thread in threads:
        assert thread.result(TIMEOUT) == []


def test_interrupted_and_going_on(stream: PacketStream, udp: UdpPair) -> None:
    """A program that catches the KeyboardInterrupt reads on."""
    with soon(lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        stream.get()
    udp.send(b"data")
    background(stream.get).result(TIMEOUT).accept()
    assert udp.arrivals() == [b"data"]


def test_stop(stream: PacketStream, udp: UdpPair) -> None:
    """What has been read is handed out, the rest stays in the kernel; then iteration ends."""
    udp.send(b"1", b"2", b"3")
    stream.get().accept()
    stream.stop()
    stream.stop()
    udp.send(b"4")
    for packet in stream:
        packet.accept()
    assert udp.arrivals() == [b"1", b"2", b"3"]
    assert not stream.closed
    assert stream.handle.stats().defaulted == 0
    (status,) = nfq.queue_status()
    assert status.waiting == 1
    for call in (stream.get, stream.get_batch, stream.get_nowait):
        with pytest.raises(nfq.ClosedError, match="the stream is stopped"):
            call()


def test_stop_what_was_set_aside(stream: PacketStream, udp: UdpPair) -> None:
    """What a configuration call has read already is handed out."""
    udp.send(b"1", b"2")
    stream.queue.set_maxlen(100)
    stream.stop()
    assert [data_of(packet) for packet in stream] == [b"1", b"2"]


def test_stop_before_it_is_opened(udp: UdpPair, nothing_left: None) -> None:
    """A stream that is stopped first reads nothing."""
    stream = open_queue(1)
    stream.stop()
    with stream:
        udp.send(b"data")
        assert list(stream) == []


@pytest.mark.parametrize("default", [nfq.NF_ACCEPT, nfq.NF_DROP])
def test_unfetched_packets(udp: UdpPair, nothing_left: None, default: nfq.Verdict) -> None:
    """Packets that nobody has fetched at the close get the default; a fetched one too."""
    with open_queue(1, default_verdict=default) as stream:
        udp.send(b"1", b"2", b"3")
        packet = stream.get()
    assert udp.arrivals() == ([b"1", b"2", b"3"] if default else [])
    with pytest.raises(nfq.ClosedError, match="destroyed"):
        packet.accept()
    assert stream.handle.stats().defaulted == 3


def test_closed_in_the_body(stream: PacketStream, udp: UdpPair) -> None:
    """A program may close the stream that it iterates over."""
    udp.send(b"1", b"2", b"3")
    for packet in stream:
        packet.accept()
        stream.close()
    assert udp.arrivals() == [b"1"]


def test_exceptions_close_it(udp: UdpPair, nothing_left: None) -> None:
    """Leaving `with` by an exception closes the stream."""
    with pytest.raises(KeyError), open_queue(1) as stream:
        raise KeyError
    assert stream.closed


PROGRAM = """
import signal, sys
import libnetfilterqueue as nfq

with nfq.open_queue(1) as packets:
    if sys.argv[1] == "term":
        signal.signal(signal.SIGTERM, lambda *_: packets.stop())
    print("ready", flush=True)
    for packet in packets:
        packet.accept()
print("over", flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_program(udp: UdpPair, signum: signal.Signals) -> None:
    """A whole program ends by SIGTERM as it has asked for, and by Ctrl-C as programs do."""
    command = [sys.executable, "-P", "-c", PROGRAM, "term" if signum == signal.SIGTERM else ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        udp.send(b"data")
        assert udp.recv() == b"data"
        program.send_signal(signum)
        output, errors = program.communicate(timeout=TIMEOUT)
    if signum == signal.SIGTERM:
        assert (output, errors, program.returncode) == (b"over\n", b"", 0)
    else:
        assert (output, program.returncode) == (b"", -signal.SIGINT)
        assert errors.endswith(b"KeyboardInterrupt\n")


# Threads


def test_several_threads(stream: PacketStream, udp: UdpPair) -> None:
    """Each packet goes to one of the threads that read, and none is left."""
    seen: list[list[int]] = [[] for _ in range(4)]

    def read(ids: list[int]) -> None:
        for packet in stream:
            ids.append(packet.id)
            packet.accept()

    with short_turns():
        threads = [background(read, ids) for ids in seen]
        for _ in range(20):
            udp.send(*[b"data"] * 40)
            for _ in range(40):
                assert udp.recv() == b"data"
        stream.stop()
        for thread in threads:
            thread.result(TIMEOUT)
    assert sorted(itertools.chain(*seen)) == list(range(1, 801))


def test_threads_in_batches(stream: PacketStream, udp: UdpPair) -> None:
    """Threads that take batches lose none."""

    def read() -> int:
        count = 0
        with contextlib.suppress(nfq.ClosedError):
            while True:
                for packet in stream.get_batch(3):
                    packet.accept()
                    count += 1
        return count

    with short_turns():
        threads = [background(read) for _ in range(4)]
        for _ in range(20):
            udp.send(*[b"data"] * 40)
            for _ in range(40):
                assert udp.recv() == b"data"
        stream.stop()
        assert sum(thread.result(TIMEOUT) for thread in threads) == 800


def test_slow_thread_delays_no_other(stream: PacketStream, udp: UdpPair) -> None:
    """While one thread is busy with its packet, another gets those of the same batch."""
    busy, over = threading.Event(), threading.Event()

    def read_slowly() -> None:
        packet = stream.get()
        busy.set()
        over.wait(TIMEOUT)
        packet.accept()

    slow = background(read_slowly)
    quick = background(stream.get)
    udp.send(b"1", b"2")
    assert busy.wait(TIMEOUT)
    quick.result(TIMEOUT).accept()
    over.set()
    slow.result(TIMEOUT)
    assert sorted(udp.arrivals()) == [b"1", b"2"]


def test_pause_and_resume_by_threads(stream: PacketStream, udp: UdpPair) -> None:
    """Threads may pause and resume as they like; the last word counts."""

    def switch() -> None:
        for _ in range(200):
            stream.pause()
            stream.resume()

    def read() -> None:
        for _ in range(40):
            stream.get().accept()

    with short_turns():
        reading = background(read)
        switching = [background(switch) for _ in range(3)]
        udp.send(*[b"data"] * 40)
        for thread in switching:
            thread.result(TIMEOUT)
    stream.resume()
    reading.result(TIMEOUT)
    assert len(udp.arrivals()) == 40


# Opening


def test_options(udp: UdpPair, nothing_left: None) -> None:
    """The queue has the mode, range, length and default that were named."""
    options: dict[str, Any] = {
        "range": 30,
        "maxlen": 2,
        "default_verdict": nfq.NF_ACCEPT,
        "limit": 1,
    }
    with open_queue(1, **options) as stream:
        assert stream.queue.number == 1
        assert stream.queue.default_verdict is nfq.NF_ACCEPT
        udp.send(*[bytes(100)] * 5)
        assert [len(packet.payload) for packet in stream.get_batch()] == [30, 30]
    with open_queue(1, mode=nfq.NFQNL_COPY_META, rcvbuf=10_000) as stream:
        assert stream.handle.rcvbuf == 20_000
        udp.send(b"data")
        assert stream.get().get_payload() == b""


def test_other_namespace(nothing_left: None) -> None:
    """A stream can be opened in another network namespace."""
    other = Namespace()
    with open_queue(1, netns=other.path) as stream:
        with other:
            queue_rule(1)
            pair = UdpPair()
        with pair:
            pair.send(b"data")
            stream.get().accept()
            assert pair.arrivals() == [b"data"]
    other.close()


def test_opening_fails(handle: Handle, nothing_left: None) -> None:
    """If a queue can't be bound, the error is raised and nothing is left."""
    handle.create_queue(1, accept)
    stream = open_queue(1)
    with pytest.raises(PermissionError, match="bound by another handle"):
        stream.__enter__()
    assert stream.closed
    with pytest.raises(FileNotFoundError):
        open_queue(2, netns="/nowhere").__enter__()
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        open_queue(2, limit=0)


def test_used_at_the_wrong_time(nothing_left: None) -> None:
    """A stream is opened once, and used while it is open."""
    stream = open_queue(1)
    calls: list[Callable[[], object]] = [
        lambda: stream.handle,
        lambda: stream.queue,
        stream.get,
        stream.get_batch,
        stream.get_nowait,
        lambda: list(stream),
        lambda: next(stream),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not open"):
            call()
    with stream, pytest.raises(ValueError, match="opened once"):
        stream.__enter__()
    with pytest.raises(ValueError, match="opened once"):
        stream.__enter__()
    assert list(stream) == []


def test_forked(stream: PacketStream, udp: UdpPair) -> None:
    """In a child of fork the stream is closed; the parent's goes on."""
    child = os.fork()
    if child == 0:
        os._exit(0 if stream.closed and list(stream) == [] else 1)
    assert os.waitpid(child, 0)[1] == 0
    udp.send(b"data")
    stream.get().accept()
    assert udp.arrivals() == [b"data"]
