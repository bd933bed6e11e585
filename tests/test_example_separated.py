# SPDX-License-Identifier: GPL-2.0-or-later
"""examples/separated.py: a process without privileges decides, by way of one that has them."""

import importlib
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from capabilities import effective, only
from netns import CAP_NET_ADMIN, QUEUED_PORT, TIMEOUT, UdpPair, iptables, queue_rule
from played_kernel import (
    MSG_CONFIG,
    MSG_PACKET,
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    NLMSG_NOOP,
    aligned,
    message,
)
from programs import EXAMPLES, QUEUE, Program, running


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The example, with one capability."""
    with running(tmp_path, "separated.py", under=[*only("net_admin")]) as program:
        program.wait_for("bound")
        yield program


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_decides(program: Program, udp: UdpPair, signum: signal.Signals) -> None:
    """Packets pass or don't as the process says that has no capability at all."""
    iptables("-t raw -F")
    queue_rule(QUEUE, match=f"-p udp --sport {QUEUED_PORT}")
    (decider,) = children(program.process.pid)
    assert effective(program.process.pid) == 1 << CAP_NET_ADMIN
    assert effective(decider) == 0
    for number in range(100):
        udp.send(b"forbidden", b"%d" % number)
        assert udp.recv() == b"%d" % number
    assert program.output.count("Dropped") == 100
    program.end(signum)


def test_killed(program: Program) -> None:
    """The process that decides doesn't outlive the other one."""
    (decider,) = children(program.process.pid)
    program.process.kill()
    end = time.monotonic() + TIMEOUT
    while Path(f"/proc/{decider}/exe").exists():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_privileges_that_stay(tmp_path: Path) -> None:
    """The program ends if the deciding process would have capabilities, as root's has."""
    with running(tmp_path, "separated.py") as program:
        assert program.process.wait(TIMEOUT) == 1
        assert "has capabilities" in program.output


def about(kind: int, number: int = QUEUE) -> bytes:
    return message(kind, struct.pack("!BBH", 0, 0, number))


GOOD = about(MSG_VERDICT)
PASSED = {
    "verdict": GOOD,
    "settings": about(MSG_CONFIG),
    "batch verdict": about(MSG_VERDICT_BATCH),
    "marker": message(NLMSG_NOOP),
    "several": GOOD + message(NLMSG_NOOP) + about(MSG_CONFIG),
    "padded": aligned(message(MSG_VERDICT, struct.pack("!BBHB", 0, 0, QUEUE, 0))) + GOOD,
}
REFUSED = {
    "another queue": about(MSG_CONFIG, QUEUE + 1),
    "another queue behind": GOOD + about(MSG_VERDICT, QUEUE + 1),
    "another kind": about(MSG_PACKET),
    "another subsystem": about(0xA00),
    "transaction": about(0x10) + GOOD,
    "short": GOOD[:15],
    "rest": GOOD + b"\0",
    "too long": struct.pack("=I", 24) + GOOD[4:],
    "no length": struct.pack("=I", 0) + GOOD[4:],
    "no queue": struct.pack("=I", 16) + GOOD[4:16],
}


PassVerdicts = Callable[[int, socket.socket, socket.socket], None]


@pytest.fixture
def pass_verdicts(monkeypatch: pytest.MonkeyPatch) -> PassVerdicts:
    """What the example does with what comes from the process without privileges."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return cast("PassVerdicts", importlib.import_module("separated").pass_verdicts)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_passed_on(pass_verdicts: PassVerdicts, name: str) -> None:
    """Messages of that queue are passed on; anything else is not, and ends the program."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    kernel, passed = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, kernel, passed:
        for datagram in (*PASSED.values(), REFUSED[name], GOOD):
            theirs.send(datagram)
        pass_verdicts(QUEUE, kernel, ours)
        kernel.send(b"the end")
        assert [passed.recv(1000) for _ in PASSED] == list(PASSED.values())
        assert passed.recv(1000) == b"the end"
