# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples in loops that need little: threads, trio, and selectors."""

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import FLOWS, balance, send_flows, sender
from netns import TIMEOUT, UdpPair, queue_rule
from programs import QUEUE, running
from queues import accept

import libnetfilterqueue as nfq

pytestmark = pytest.mark.slow  # each starts programs

SIGNALS = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture
def udp() -> Iterator[UdpPair]:
    """Datagrams that pass through the example's queue."""
    queue_rule(QUEUE)
    with UdpPair() as pair:
        yield pair


@SIGNALS
def test_worker_pool(tmp_path: Path, signum: signal.Signals) -> None:
    """Every thread has a share of the flows, and all packets but the forbidden one pass."""
    balance(QUEUE, QUEUE + 3)
    with running(tmp_path, "worker_pool.py", 4) as program:
        program.wait_for("bound")
        with sender() as sock:
            sock.send(b"forbidden")
        send_flows(3)  # nothing else arrives
        program.end(signum)
    shares = dict(re.findall(r"Queue (\d+): (\d+) packets", program.output))
    assert sorted(map(int, shares)) == list(range(QUEUE, QUEUE + 4))
    assert all(map(int, shares.values()))
    assert sum(map(int, shares.values())) == 3 * len(FLOWS) + 1


@SIGNALS
def test_worker_processes(tmp_path: Path, signum: signal.Signals) -> None:
    """Every process has a share of the flows, and all packets but the forbidden one pass."""
    balance(QUEUE, QUEUE + 1)
    with running(tmp_path, "worker_processes.py", 2) as program:
        program.wait_for(r"Queue \d+ is bound", 2)
        with sender() as sock:
            sock.send(b"forbidden")
        send_flows(3)  # nothing else arrives
        program.end(signum)
    shares = dict(re.findall(r"Queue (\d+): (\d+) packets", program.output))
    assert sorted(map(int, shares)) == [QUEUE, QUEUE + 1]
    assert all(map(int, shares.values()))
    assert sum(map(int, shares.values())) == 3 * len(FLOWS) + 1


def test_worker_process_fails(tmp_path: Path) -> None:
    """If a process can't bind its queue, the program ends, and says why."""
    with nfq.open() as handle:
        handle.create_queue(QUEUE + 1, accept)
        with running(tmp_path, "worker_processes.py", 2) as program:
            assert program.process.wait(TIMEOUT) == 1
    assert "bound by" in program.output
    assert "A process has ended, so all do" in program.output


def test_worker_processes_follow(tmp_path: Path) -> None:
    """If the program is killed, its processes give their queues free."""
    with running(tmp_path, "worker_processes.py", 2) as program:
        program.wait_for(r"Queue \d+ is bound", 2)
        program.kill()
        end = time.monotonic() + TIMEOUT
        while nfq.queue_status():
            assert time.monotonic() < end
            time.sleep(0.005)


@SIGNALS
def test_trio_loop(tmp_path: Path, udp: UdpPair, signum: signal.Signals) -> None:
    """Packets are kept together, not one after the other, and pass."""
    datagrams = [b"%d" % number for number in range(50)]
    with running(tmp_path, "trio_loop.py", 0.2) as program:
        program.wait_for("bound")
        udp.send(*datagrams)
        assert sorted(udp.recv() for _ in datagrams) == sorted(datagrams)
        program.wait_for(r"Packet \d+: accepted", 50)
        program.end(signum)
    assert "50 packets, 50 verdicts" in program.output


@SIGNALS
def test_trio_loop_cancelled(tmp_path: Path, udp: UdpPair, signum: signal.Signals) -> None:
    """The packets of cancelled tasks are dropped."""
    with running(tmp_path, "trio_loop.py", 60) as program:
        program.wait_for("bound")
        udp.send(b"1", b"2", b"3")
        program.wait_for(": kept", 3)
        program.end(signum)
    assert "3 packets, 3 verdicts" in program.output
    assert udp.arrivals() == []


@SIGNALS
def test_select_loop(tmp_path: Path, udp: UdpPair, signum: signal.Signals) -> None:
    """Packets and the signal are seen by one loop."""
    datagrams = [b"%d" % number for number in range(50)]
    with running(tmp_path, "select_loop.py") as program:
        program.wait_for("bound")
        udp.send(*datagrams)
        assert [udp.recv() for _ in datagrams] == datagrams
        program.end(signum)
    assert program.output.count("NF_INET_LOCAL_OUT lo ") == 50
    assert program.output.endswith(f"{signum.name}\n")
