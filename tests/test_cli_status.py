# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue status`, on the real kernel where it tells, and on the fake one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from netns import UdpPair
from programs import command_line
from queues import Handle, Packet, accept, process_until
from statuses import visible

import libnetfilterqueue as nfq
from libnetfilterqueue.cli import main
from libnetfilterqueue.cli._programs import Program, find_programs
from libnetfilterqueue.cli._samples import Line, Rates, Sample, rates_between
from libnetfilterqueue.cli._table import program_name
from libnetfilterqueue.testing import FakeKernel
from libnetfilterqueue.tuples import QueueStatus

COPY = nfq.NFQNL_COPY_PACKET


def queue_status(portid: int, packets: int, queue_dropped: int, user_dropped: int) -> QueueStatus:
    return QueueStatus(1, portid, 0, COPY, 65531, queue_dropped, user_dropped, packets)


def sample(seconds: float, *queues: QueueStatus) -> Sample:
    return Sample(seconds, seconds, {status.queue: status for status in queues})


def test_real_queue(handle: Handle, udp: UdpPair, capsys: pytest.CaptureFixture[str]) -> None:
    """status shows what the kernel knows, and our program; where it may not, a line says so."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY, range=100, maxlen=3)
    udp.send(*[b"data"] * 5)
    process_until(handle, lambda: len(packets) == 3)
    status = main(["status", "--json"])
    output, errors = capsys.readouterr()
    if not visible():
        assert (status, output) == (1, "")
        assert re.fullmatch(r"libnetfilterqueue status: queue_status\(\).*root.*\n", errors)
        return
    assert (status, errors) == (0, "")
    told = json.loads(output)
    assert abs(told.pop("timestamp") - time.time()) < 60
    assert " ".join(sys.orig_argv) == told.pop("program")
    assert told == {
        "version": 1,
        "queue": 1,
        "portid": nfq.queue_status()[0].portid,
        "waiting": 3,
        "copy_mode": "NFQNL_COPY_PACKET",
        "copy_range": 100,
        "queue_dropped": 2,
        "user_dropped": 0,
        "id_sequence": 3,
        "pid": os.getpid(),
        "packets_per_second": None,
        "queue_dropped_per_second": None,
        "user_dropped_per_second": None,
    }


def test_real_table(handle: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has the same as JSON, a row per queue."""
    handle.create_queue(1, accept, mode=COPY)
    handle.create_queue(65535, accept, mode=nfq.NFQNL_COPY_META)
    if not visible():
        assert main(["status"]) == 1
        return
    assert main(["status"]) == 0
    when, *headings, first, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d", when)
    assert [line.split() for line in headings] == [
        ["queue", "buffer"],
        ["queue", "waiting", "copied", "packets", "full", "full", "portid", "program"],
    ]
    names = program_name(Line(queue_status(1, 0, 0, 0), Program(1, " ".join(sys.orig_argv)), None))
    ours = rf"{nfq.queue_status()[0].portid} +{re.escape(names)} *"
    assert re.fullmatch(rf" +1 +0 +65531 +0 +0 +0 +{ours}", first)
    assert re.fullmatch(rf"65535 +0 +meta +0 +0 +0 +{ours}", last)


def test_none(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a queue status says so; in JSON there is no line."""
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["no queue is bound"]
    assert main(["status", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_interval(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """With --interval there are rates from the second sample on."""
    with nfq.open() as handle:
        handle.create_queue(1, accept, mode=COPY)
        assert main(["status", "--json", "--interval", "0.1", "--count", "3"]) == 0
    first, *others = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first["packets_per_second"] is None
    assert [told["packets_per_second"] for told in others] == [0.0, 0.0]
    assert 0.1 <= others[1]["timestamp"] - others[0]["timestamp"] < 10


@pytest.mark.nfqueue(allow_undecided=True)
def test_rates_in_the_table(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Rates stand below the counters; an owner without a netlink socket is not known."""
    with nfq.open() as handle:
        handle.create_queue(1, accept, mode=COPY, maxlen=2)
        nfqueue.enqueue_all([b"data"] * 5)
        assert main(["status", "--interval", "0.01", "--count", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 + 5
    assert re.fullmatch(r" +1 +2 +65531 +2 +3 +0 +1 +\? *", lines[3])
    assert re.fullmatch(r" +0\.0/s +0\.0/s +0\.0/s *", lines[8])


def test_rates() -> None:
    """A rate is what came per second, also when ids wrap."""
    before = sample(1.0, queue_status(7, 10, 5, 0))
    after = sample(3.0, queue_status(7, 110, 6, 20))
    assert rates_between(before, after, 1) == Rates(50.0, 0.5, 10.0)
    before = sample(1.0, queue_status(7, 2**32 - 1, 0, 0))
    after = sample(2.0, queue_status(7, 1, 0, 0))
    assert rates_between(before, after, 1) == Rates(2.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "before",
    [
        sample(1.0),
        sample(1.0, queue_status(8, 10, 0, 0)),
        sample(1.0, queue_status(7, 1000, 0, 0)),
        sample(1.0, queue_status(7, 10, 6, 0)),
        sample(1.0, queue_status(7, 10, 0, 6)),
    ],
)
def test_no_rates(before: Sample) -> None:
    """A queue that was not there before, or is another one by now, has no rates."""
    assert rates_between(before, sample(2.0, queue_status(7, 110, 5, 5)), 1) is None


@pytest.mark.table
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_ended(tmp_path: Path, signum: signal.Signals, status: int) -> None:
    """A signal ends status at once."""
    with command_line(tmp_path, "status", "--interval", 1000) as program:
        program.wait_for("no queue is bound")
        program.end(signum, status)
    assert program.errors == ""


@pytest.mark.table
def test_broken_pipe(tmp_path: Path) -> None:
    """status ends when nobody reads it any more."""
    reader, writer = os.pipe()
    with command_line(tmp_path, "status", "--interval", 0.01, output=writer) as program:
        os.close(writer)
        with open(reader) as lines:
            lines.readline()
            assert lines.readline() == "no queue is bound\n"
        program.ends()
    assert program.errors == ""


def test_closed_descriptor() -> None:
    """A descriptor that is closed while it is listed hides none of the others."""
    lower = os.open(os.devnull, os.O_RDONLY)
    with nfq.open() as handle:
        os.close(lower)
        handle.create_queue(1, print)
        assert [program.pid for program in find_programs().values()] == [os.getpid()]


BOUND = """
import os, sys
import libnetfilterqueue as nfq
handle = nfq.open()
handle.create_queue(1, print)
if os.fork():
    print("bound", flush=True)
sys.stdin.read()
os._exit(0)  # at a child's exit LeakSanitizer would tell of locks that CPython lets go in fork
"""


def test_forked_program() -> None:
    """Of programs with the same socket the oldest is shown; its name harms no terminal."""
    command = [sys.executable, "-P", "-c", BOUND, "\x1b[31m"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"bound\n"
        (program,) = find_programs().values()
        assert process.stdin is not None
        process.stdin.close()  # which ends both
    assert program.pid == process.pid
    assert program.command.endswith(" ?[31m")


def test_mode_without_a_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy mode of a newer kernel is shown as its number."""
    mode: Any = 9
    newer = queue_status(7, 0, 0, 0)._replace(copy_mode=mode)
    monkeypatch.setattr(nfq, "queue_status", lambda: [newer])
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["copy_mode"] == 9
    assert main(["status"]) == 0
    assert re.fullmatch(r" +1 +0 +9 +0 +0 +0 +7 +\? *", capsys.readouterr().out.splitlines()[-1])


def test_program_name() -> None:
    """Python and paths in front of files are left out; a network is not a path."""
    names = {
        "/usr/bin/python3 /opt/filter/bin/filter --net 10.0.0.0/8": "filter --net 10.0.0.0/8",
        "venv/bin/python3.13t bin/filter.py": "filter.py",
        "/usr/bin/python3 -u -m filters --queue 1": "filters --queue 1",
        "python3 -W error filter.py": "python3 -W error filter.py",
        "python3": "python3",
        "": "",
    }
    line = Line(queue_status(1, 0, 0, 0), None, None)
    for command, name in names.items():
        assert program_name(line._replace(program=Program(7, command))) == name
    assert program_name(line) == "?"
