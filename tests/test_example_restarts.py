# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that are restarted without losing a packet: examples, and one for each other adapter.

`libnetfilterqueue keep` starts them with three arguments: the queue's number, the seconds that the
handler of a packet takes, and the seconds that handlers have when the program is to end.
"""

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from available import FASTAPI, GEVENT
from netns import TIMEOUT, UdpPair, background, queue_rule
from programs import COMMAND, EXAMPLES, QUEUE, Program

pytestmark = pytest.mark.slow  # each starts a program twice at least

SO_RCVBUFFORCE = 33
NETLINK_NETFILTER = "12"
UVICORN = 128 + signal.SIGTERM  # what it ends with; the other programs end as they like
WINDOW = 200  # datagrams on their way, at most

START = """
import contextlib, functools, signal, sys, threading, time
import libnetfilterqueue as nfq
from libnetfilterqueue import keeping

number, seconds, patience = int(sys.argv[1]), *map(float, sys.argv[2:])
options = {"handle": keeping.open(), "unanswered": nfq.NF_REPEAT}

def bound():
    print("is bound, kept:", options["handle"].kept, flush=True)
"""
END = """
stats = options["handle"].stats()
print(f"{stats.packets} packets, {stats.verdicts} verdicts")
"""

THREADS = """
def work():
    with contextlib.suppress(nfq.ClosedError):
        for packet in packets:
            time.sleep(seconds)
            packet.accept()

terminated = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: terminated.set())
with nfq.open_queue(number, **options) as packets:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    bound()
    terminated.wait()
    packets.stop()
    end = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
"""

ASYNCIO = """
import asyncio
from libnetfilterqueue import aio

async def handle(packet):
    await asyncio.sleep(seconds)
    packet.accept()

async def main():
    def end():
        stream.stop()
        loop.call_later(patience, stream.close)

    loop = asyncio.get_running_loop()
    async with aio.open_queue(number, **options) as stream:
        loop.add_signal_handler(signal.SIGTERM, end)
        bound()
        await aio.serve(stream, handle)

asyncio.run(main())
"""

TRIO = """
import trio
from libnetfilterqueue.trio import open_queue, serve

async def handle(packet):
    await trio.sleep(seconds)
    packet.accept()

async def end(stream, signals):
    async for _ in signals:
        stream.stop()
        await trio.sleep(patience)
        stream.close()

async def main():
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_queue(number, **options) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(end, stream, signals)
            bound()
            await serve(stream, handle)
            nursery.cancel_scope.cancel()

trio.run(main)
"""

AVAILABLE = {"restart_fastapi.py": FASTAPI, "restart_gevent.py": GEVENT}
PROGRAMS: dict[str, Path | str] = {
    **{path.name: path for path in sorted(EXAMPLES.glob("restart_*.py"))},
    "threads": START + THREADS + END,
    "asyncio": START + ASYNCIO + END,
    "trio": START + TRIO + END,
}


class Service:
    """A program that is kept. Each start has the arguments of that time."""

    def __init__(self, directory: Path, name: str) -> None:
        self._arguments = directory / "arguments"
        self._starts = 0
        self._status = UVICORN if name == "restart_fastapi.py" else 0
        self.set()
        program = PROGRAMS[name]
        if isinstance(program, str):
            path = directory / "program.py"
            path.write_text(program)
            program = path
        start = f'exec {sys.executable} -P -W error {program} {QUEUE} $(cat "$0")'
        keep = [*COMMAND, "keep", "--backoff", "0", "--", "sh", "-c", start, self._arguments]
        self._program = Program(directory, keep)

    def set(self, seconds: float = 0.01, patience: float = TIMEOUT) -> None:
        """What the next start has: the time of a handler, and that of its end."""
        self._arguments.write_text(f"{seconds} {patience}")

    def wait_until(self, done: Callable[[], object]) -> None:
        """Until that is so, while it runs."""
        self._program.wait_until(done)

    def wait_until_started(self) -> None:
        """Until the next start has taken its queue over."""
        self._starts += 1
        self._program.wait_for("is bound, kept: True", self._starts)

    def restart(self) -> None:
        """Has it replaced by the next start."""
        self._program.process.send_signal(signal.SIGHUP)

    def end(self) -> list[str]:
        """Ends it. Returns what each start has counted."""
        self._program.end(signal.SIGTERM, self._status)
        return [line for line in self._program.output.splitlines() if line.endswith("verdicts")]

    def close(self) -> None:
        self._program.kill()


def unread() -> int:
    """Bytes that the netfilter sockets of this namespace hold."""
    _, *lines = map(str.split, Path("/proc/thread-self/net/netlink").read_text().splitlines())
    return sum(int(line[4]) for line in lines if line[1] == NETLINK_NETFILTER)


@pytest.fixture
def udp() -> Iterator[UdpPair]:
    """Datagrams that pass through the program's queue."""
    queue_rule(QUEUE)
    with UdpPair() as pair:
        pair.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        yield pair


NAMES = [name for name in PROGRAMS if AVAILABLE.get(name, True)]
each = pytest.mark.parametrize("service", NAMES, indirect=True)


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path, udp: UdpPair) -> Iterator[Service]:
    """One of the programs, started."""
    with contextlib.closing(Service(tmp_path, request.param)) as service:
        service.wait_until_started()
        yield service


class Load:
    """Numbered datagrams, as fast as they pass, until it ends."""

    def __init__(self, udp: UdpPair) -> None:
        self._udp = udp
        self._udp.receiver.settimeout(0.05)
        self._room = threading.Semaphore(WINDOW)
        self._ending = threading.Event()
        self.arrived: list[int] = []
        self._sending = background(self._send)
        self._receiving = background(self._receive)

    def _send(self) -> int:
        sent = 0
        while not self._ending.is_set() or sent <= WINDOW:
            if self._room.acquire(timeout=0.01):
                self._udp.send(b"%d" % sent)
                sent += 1
        return sent

    def _receive(self) -> None:
        last = time.monotonic()
        while not self._sending.done() or len(self.arrived) < self._sending.result():
            with contextlib.suppress(TimeoutError):
                self.arrived.append(int(self._udp.recv()))
                self._room.release()
                last = time.monotonic()
            assert time.monotonic() < last + TIMEOUT, f"{len(self.arrived)} have arrived"

    def expect(self, count: int) -> None:
        """Waits until so many more have arrived."""
        before = len(self.arrived)
        end = time.monotonic() + TIMEOUT
        while len(self.arrived) < before + count:
            assert time.monotonic() < end, f"{len(self.arrived)} have arrived"
            time.sleep(0.001)

    def end(self) -> int:
        """Waits until all have arrived; returns how many were sent."""
        self._ending.set()
        try:
            self._receiving.result(2 * TIMEOUT)
        finally:
            self._udp.receiver.settimeout(TIMEOUT)
        return self._sending.result()


@pytest.mark.parametrize("restarts", [1, 8])
@each
def test_under_load(service: Service, udp: UdpPair, restarts: int) -> None:
    """Each datagram arrives once, however often the program is restarted."""
    load = Load(udp)
    for _ in range(restarts):
        load.expect(20)
        service.restart()
        service.wait_until_started()
    sent = load.end()
    starts = service.end()
    assert sorted(load.arrived) == list(range(sent))
    assert udp.arrivals() == []
    assert len(starts) == restarts + 1


DATAGRAMS = [b"%d" % number for number in range(5)]


def restart_with_five(service: Service, udp: UdpPair, seconds: float, patience: float) -> None:
    """Restarts it with as many packets in handlers that take so long, and have so long."""
    service.set(seconds, patience)
    service.restart()
    service.wait_until_started()
    udp.send(*DATAGRAMS)
    service.wait_until(lambda: not unread())
    service.set()
    service.restart()
    service.wait_until_started()


@each
def test_handlers_finish(service: Service, udp: UdpPair) -> None:
    """Handlers that run when the program is to end decide on their packets before it does."""
    restart_with_five(service, udp, 0.3, TIMEOUT)
    assert sorted(udp.arrivals()) == DATAGRAMS
    assert service.end()[1:] == ["5 packets, 5 verdicts", "0 packets, 0 verdicts"]


@each
def test_handlers_that_take_too_long(service: Service, udp: UdpPair) -> None:
    """They are cut off, and the next start decides on their packets."""
    restart_with_five(service, udp, 10 * TIMEOUT, 0.1)
    assert sorted(udp.recv() for _ in DATAGRAMS) == DATAGRAMS
    first, second = service.end()[1:]
    assert first == "5 packets, 0 verdicts"
    assert second.startswith("5 packets,")
    assert udp.arrivals() == []
