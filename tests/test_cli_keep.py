# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue keep`: a program is started again, and its queues are kept meanwhile."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from netns import TIMEOUT, UdpPair, plain_environment
from queues import ROUNDS

KEEP = [sys.executable, "-P", "-m", "libnetfilterqueue", "keep"]
SHELL = ["--", "sh", "-c"]

FILTER = """
import os, signal, sys
import libnetfilterqueue as nfq
from libnetfilterqueue import keeping

def callback(packet):
    data = packet.get_payload()[28:]
    if data == b"deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    packet.accept()

with keeping.open() as handle:
    handle.create_queue(1, callback, unanswered=nfq.{unanswered})
    print(os.getpid(), handle.kept, flush=True)
    while True:
        handle.process(1, timeout=None)
"""


@contextlib.contextmanager
def keep(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, until it is ended, and its program with it."""
    process = subprocess.Popen(
        [*KEEP, *arguments], stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # all of it has ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def read_until(terminal: IO[bytes], expected: bytes) -> None:
    """Reads what is printed there until it has come."""
    output = b""
    while expected not in output:
        output += terminal.read(100)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KEEP, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM)]
)
def test_exit_status(script: str, status: int) -> None:
    """It ends with the program's status."""
    assert run("--restart", "no", *SHELL, script).returncode == status


@pytest.mark.parametrize(("restart", "starts"), [("always", 3), ("on-failure", 2), ("no", 1)])
def test_restart(tmp_path: Path, restart: str, starts: int) -> None:
    """When a program is started again: after each end, after failures, or never."""
    script = (
        f"echo >> {tmp_path}/starts; case $(wc -l < {tmp_path}/starts) in"
        " 1) exit 3;; 2) exit 0;; *) trap '' TERM; kill -TERM $PPID; exit 5;; esac"
    )
    done = run("--restart", restart, "--backoff", "0", *SHELL, script)
    assert len((tmp_path / "starts").read_text().splitlines()) == starts
    assert done.returncode == {1: 3, 2: 0, 3: 5}[starts]


@pytest.mark.parametrize(
    ("program", "message"), [("/nowhere", "No such file or directory"), ("/", "Permission denied")]
)
def test_no_such_program(program: str, message: str) -> None:
    """One line says why it can't be started, and nothing is tried again."""
    done = run("--restart", "always", "--", program)
    assert done.returncode == 1
    assert done.stderr == f"libnetfilterqueue keep: {program}: {message}\n"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_ending_signals(signum: signal.Signals) -> None:
    """They go to the program, which may take its time, and is not started again."""
    script = f"trap 'echo caught; exit 4' {signum.value}; echo ready; while :; do sleep 0.01; done"
    with keep("--restart", "always", *SHELL, script) as process:
        assert line(process) == "ready"
        process.send_signal(signum)
        assert line(process) == "caught"
        assert process.wait(TIMEOUT) == 4


def test_forwarded_signals() -> None:
    """Others reach the program too, and end nothing."""
    script = "trap 'echo one' USR1; trap 'echo two' USR2; echo ready; while :; do sleep 0.01; done"
    with keep(*SHELL, script) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGUSR1)
        assert line(process) == "one"
        process.send_signal(signal.SIGUSR2)
        assert line(process) == "two"
        process.terminate()
        assert process.wait(TIMEOUT) == 128 + signal.SIGTERM


def test_ctrl_c_at_the_terminal() -> None:
    """The terminal itself sends it to the program, which so gets it once, and ends both."""
    script = "trap 'n=$((n+1)); echo got $n' INT; echo ready; while :; do sleep 0.01; done"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*KEEP, *SHELL, script])
    with open(terminal, "r+b", buffering=0) as end:
        read_until(end, b"ready")
        end.write(b"\x03")
        read_until(end, b"got 1")
        end.write(b"\x03")
        read_until(end, b"got 2")
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGTERM


def test_signals_that_python_ignores() -> None:
    """The program has the signals as the shell would start it: pipelines end as ever."""
    done = run("--restart", "no", "--", "grep", "SigIgn", "/proc/self/status")
    assert int(done.stdout.split()[1], 16) & (1 << signal.SIGPIPE - 1) == 0


def test_descriptors_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keep itself was passed, by systemd or another keep, is not the program's."""
    passed = {"LISTEN_PID": "1", "LISTEN_PIDFDID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a"}
    for name, value in {**passed, "LISTEN_ADDRESS": "other"}.items():
        monkeypatch.setenv(name, value)
    done = run("--restart", "no", "--", "env")
    listening = [line for line in done.stdout.splitlines() if line.startswith("LISTEN_")]
    assert listening == ["LISTEN_ADDRESS=other"]


def test_backoff() -> None:
    """A program that ends at once is waited for, longer each time."""
    with keep("--backoff", "0.1", *SHELL, "echo start; exit 1") as process:
        times = []
        for _ in range(4):
            assert line(process) == "start"
            times.append(time.monotonic())
        assert times[3] - times[0] >= 0.1 + 0.2 + 0.4
        process.terminate()
        assert process.wait(TIMEOUT) in (1, 128 + signal.SIGTERM)  # it may run again just now


def test_orphans(tmp_path: Path) -> None:
    """As the first process of a container it leaves no zombies of the program's children."""
    pid = tmp_path / "pid"
    script = f"(sleep 0.01 & echo $! > {pid}) & sleep 0.2; ls /proc | grep -x $(cat {pid})"
    preloaded = f"LD_PRELOAD={os.environ.get('LD_PRELOAD', '')}"
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "env", preloaded]
    done = subprocess.run(
        [*unshare, *KEEP, "--restart", "no", *SHELL, script],
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


# With a queue


def test_killed(udp: UdpPair) -> None:
    """The filter is killed again and again; each datagram arrives."""
    program = FILTER.format(unanswered="NF_REPEAT")
    with keep("--backoff", "0", "--", sys.executable, "-P", "-c", program) as process:
        for round_ in range(max(3, ROUNDS // 10)):
            pid, kept = line(process).split()
            assert kept == "True"
            udp.send(b"%d" % round_)
            assert udp.recv() == b"%d" % round_
            os.kill(int(pid), signal.SIGKILL)
            udp.send(b"meanwhile")
            assert udp.recv() == b"meanwhile"
        process.terminate()
        process.wait(TIMEOUT)


def test_replaced(udp: UdpPair) -> None:
    """SIGHUP replaces the program at once, whatever the policy; what waits is the next one's."""
    program = FILTER.format(unanswered="NF_REPEAT")
    with keep("--restart", "no", "--", sys.executable, "-P", "-c", program) as process:
        first, _ = line(process).split()
        process.send_signal(signal.SIGHUP)
        udp.send(b"1")
        second, _ = line(process).split()
        assert first != second
        assert udp.recv() == b"1"
        process.terminate()
        assert process.wait(TIMEOUT) == 128 + signal.SIGTERM


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_nothing_piles_up(udp: UdpPair) -> None:
    """However often the program is started, the keeper holds the same descriptors."""
    program = FILTER.format(unanswered="NF_DROP")
    with keep("--backoff", "0", "--", sys.executable, "-P", "-c", program) as process:
        line(process)
        before = descriptors(process.pid)
        for _ in range(3):
            udp.send(b"deadly")
            line(process)
            assert descriptors(process.pid) == before
        process.terminate()
        process.wait(TIMEOUT)
