# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue status --check`: what a monitoring system sees of it."""

import re
from collections.abc import Iterator

import pytest
from netns import UdpPair
from queues import Handle, Packet, process_until
from statuses import visible

import libnetfilterqueue as nfq
from libnetfilterqueue.cli import main
from libnetfilterqueue.tuples import QueueStatus

COPY = nfq.NFQNL_COPY_PACKET


def queue(number: int, waiting: int = 0, dropped: int = 0, packets: int = 10) -> QueueStatus:
    """A line of the kernel's table."""
    return QueueStatus(number, 7, waiting, COPY, 65531, dropped, 0, packets)


def checked(
    capsys: pytest.CaptureFixture[str], *arguments: str, interval: str = "0.01"
) -> tuple[object, str, str]:
    """Exit status, state and reason, and the values."""
    with pytest.raises(SystemExit) as raised:
        main(["status", "--check", "--interval", interval, *arguments])
    output, errors = capsys.readouterr()
    assert errors == ""
    (line,) = output.splitlines()
    text, _, values = line.partition(" | ")
    return raised.value.code, text, values


def table(monkeypatch: pytest.MonkeyPatch, *samples: list[QueueStatus]) -> None:
    """Has the kernel report these, one after the other."""
    each: Iterator[list[QueueStatus]] = iter(samples)
    monkeypatch.setattr(nfq, "queue_status", lambda: next(each))


def test_real_queue(handle: Handle, udp: UdpPair, capsys: pytest.CaptureFixture[str]) -> None:
    """All is well until too many packets wait; where the kernel hides that, it is unknown."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    udp.send(*[b"data"] * 3)
    process_until(handle, lambda: len(packets) == 3)
    if not visible():
        status, text, values = checked(capsys)
        assert (status, values) == (3, "")
        assert re.fullmatch(r"QUEUES UNKNOWN - queue_status\(\).*root.*", text)
        return
    values = "queue_1_drops=0;0;100;0 queue_1_packets=3c"
    assert checked(capsys) == (
        0,
        "QUEUES OK - 1 bound, 3 waiting",
        f"queue_1_waiting=3;500;900;0 {values}",
    )
    assert checked(capsys, "-w", "waiting=2") == (
        1,
        "QUEUES WARNING - queue 1: waiting 3 > 2",
        f"queue_1_waiting=3;2;900;0 {values}",
    )
    assert checked(capsys, "--critical", "waiting=2", "--queue", "1", "--queue", "2") == (
        2,
        "QUEUES CRITICAL - queue 2 is not bound; queue 1: waiting 3 > 2",
        f"queue_1_waiting=3;500;2;0 {values}",
    )


def test_no_queue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine on which no queue is bound has a problem."""
    table(monkeypatch, [], [])
    assert checked(capsys) == (2, "QUEUES CRITICAL - no queue is bound", "")


@pytest.mark.parametrize(("waiting", "status"), [(500, 0), (501, 1), (900, 1), (901, 2)], ids=str)
def test_waiting(
    waiting: int,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """More than a threshold is too much, as much as it is not."""
    table(monkeypatch, [queue(1)], [queue(1, waiting), queue(2)])
    assert checked(capsys)[0] == status


@pytest.mark.parametrize(
    ("arguments", "status"),
    [("", 1), ("-w drops=1e9", 0), ("-c drops=0", 2), ("--queue 2", 0), ("-c waiting=0", 1)],
)
def test_drops(
    arguments: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Packets that were dropped before do not count, those between the samples do."""
    table(
        monkeypatch,
        [queue(1, dropped=5), queue(2, dropped=5)],
        [queue(1, dropped=6), queue(2, dropped=5)],
    )
    assert checked(capsys, *arguments.split(), interval="0.1")[0] == status


def test_bound_anew(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A queue that was bound between the samples has dropped nothing yet."""
    table(monkeypatch, [queue(1, dropped=5)], [queue(1, dropped=9)._replace(portid=8)])
    assert checked(capsys)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--json", "argument --json: not allowed with --check"),
        ("--count 2 --interval 1", "argument --count: not allowed with --check"),
        ("--warning lost=1", "argument -w/--warning: 'lost' is not one of waiting, drops"),
        ("--critical drops=-1", "argument -c/--critical: -1 is not a number from 0 on"),
        ("--critical drops=x", "argument -c/--critical: 'x' is not a number"),
        ("--queue 65536", "argument --queue: 65536 is not in the range 0-65535"),
    ],
)
def test_wrong_command_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command line is unknown, not critical."""
    with pytest.raises(SystemExit) as raised:
        main(["status", "--check", *arguments.split()])
    assert raised.value.code == 3
    assert message in capsys.readouterr().err.splitlines()[-1]
