# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples on the real kernel and on the fake one: the same packets get the same verdicts."""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.message
import dns.name
import dns.rrset
import pytest
import trio
from kernels import DROPPED, KERNELS, Network, Outcome
from netns import TIMEOUT, background
from programs import EXAMPLES

import libnetfilterqueue as nfq

pytestmark = pytest.mark.slow  # each starts programs

TESTS = Path(__file__).parent
Example = Callable[[str], Any]


@pytest.fixture(params=KERNELS)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Either kernel; the examples open their handles there."""
    network = KERNELS[request.param]()
    network.rule()
    with network.patched():
        yield network
    network.close()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Example:
    """Imports an example."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


def passed(*data: bytes) -> list[Outcome]:
    return [Outcome(True, datagram) for datagram in data]


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Those that examples have set don't outlive them; uvloop leaves its own."""
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


def drive(network: Network, printed: list[str], data: list[bytes], main_thread: int) -> None:
    """Sends datagrams to an example once it is bound, and ends it when it has decided on all."""
    try:
        end = time.monotonic() + TIMEOUT
        while "bound" not in "".join(printed):
            assert time.monotonic() < end, printed
            time.sleep(0.001)
        network.send(*data)
        network.wait_for_verdicts(len(data))
    finally:
        signal.pthread_kill(main_thread, signal.SIGINT)


@pytest.fixture
def driven(network: Network, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Has an example that runs in this thread driven by another one."""
    printed: list[str] = []  # capsys may lose what comes while another thread reads
    stdout = SimpleNamespace(write=printed.append, flush=lambda: None)

    def start(*data: bytes) -> Future[None]:
        monkeypatch.setattr(sys, "stdout", stdout)  # pytest sets its own after the fixtures
        return background(drive, network, printed, list(data), threading.get_ident())

    return start


def test_select_loop(network: Network, example: Example, driven: Callable[..., Any]) -> None:
    """select_loop.py lets all pass."""
    driving = driven(b"1", b"2", b"3")
    example("select_loop").main(1)
    driving.result(TIMEOUT)
    assert network.outcomes() == passed(b"1", b"2", b"3")


def test_trio_loop(network: Network, example: Example, driven: Callable[..., Any]) -> None:
    """trio_loop.py lets all pass, later."""
    driving = driven(b"1", b"2", b"3")
    trio.run(example("trio_loop").main, 1, 0.01)
    driving.result(TIMEOUT)
    assert network.outcomes() == passed(b"1", b"2", b"3")


def test_worker_pool(network: Network, example: Example, driven: Callable[..., Any]) -> None:
    """worker_pool.py drops what is forbidden, in a thread of its own."""
    driving = driven(b"1", b"forbidden", b"3")
    example("worker_pool").main(0, 2)
    driving.result(TIMEOUT)
    assert network.outcomes() == [*passed(b"1"), DROPPED, *passed(b"3")]


def test_readme_loop(
    network: Network, example: Example, capsys: pytest.CaptureFixture[str]
) -> None:
    """readme_loop.py's callback, in its loop, prints the same of a packet and lets it pass."""
    readme_loop = example("readme_loop")
    with nfq.open() as handle:
        handle.create_queue(1, readme_loop.callback).set_mode(nfq.NFQNL_COPY_PACKET, 0xFFFF)
        network.send(b"data", bytes(5000))
        with socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            for _ in range(2):
                handle.handle_packet(sock.recv(4096))
        assert handle.stats().truncated == 1
    assert network.outcomes() == passed(b"data", bytes(5000))
    printed = capsys.readouterr().out
    for number in range(2):
        assert f"    udp.src: {40_000 + number}\n    udp.dst: 9999\n" in printed


async def test_dns_filter(network: Network, example: Example) -> None:
    """dns_filter.py drops, rewrites and lets pass the same messages."""
    dns_filter = example("dns_filter")

    def query(name: str) -> dns.message.Message:
        return dns.message.make_query(name, "A", id=1)

    def answer(name: str, address: str) -> bytes:
        message = dns.message.make_response(query(name))
        message.answer.append(dns.rrset.from_text(f"{name}.", 300, "IN", "A", address))
        return message.to_wire()

    blocked = {dns.name.from_text("blocked.example")}
    rewrites = {dns.name.from_text("www.example"): "198.51.100.7"}
    rules = dns_filter.Filter(blocked, rewrites)
    task = asyncio.create_task(dns_filter.main(1, rules))
    await asyncio.sleep(0)  # it has bound the queue
    good, other = query("good.example").to_wire(), answer("good.example", "192.0.2.1")
    network.send(
        good,
        query("a.blocked.example").to_wire(),
        b"no DNS",
        answer("www.example", "192.0.2.1"),
        other,
    )
    await asyncio.to_thread(network.wait_for_verdicts, 5)
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    rewritten = answer("www.example", "198.51.100.7")
    assert network.outcomes() == [*passed(good), DROPPED, DROPPED, *passed(rewritten, other)]


async def test_traffic_shaper(network: Network, example: Example) -> None:
    """traffic_shaper.py keeps packets, and lets pass what waits at its end."""
    app = example("traffic_shaper").Application(1, 1.0)
    async with contextlib.asynccontextmanager(app.run)(None):
        network.send(b"1", b"2", b"3")
        await asyncio.to_thread(network.wait_for_verdicts, 1)
        assert json.loads((await app.status(None)).body)["waiting"] == 2
    assert network.outcomes() == passed(b"1", b"2", b"3")


@pytest.mark.gevent
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["gevent_wsgi", "gevent_monkey"])
def test_gevent(name: str, kernel: str) -> None:
    """gevent_wsgi.py and gevent_monkey.py, monkey-patched, let all pass."""
    script = str(TESTS / "support" / "gevent_on_both.py")
    command = [sys.executable, "-W", "error", script, name, kernel]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes == [[True, datagram, 0] for datagram in ("1", "2", "3")]
