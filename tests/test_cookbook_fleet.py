# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/fleet.md: hosts follow one policy, and keep it while redis is away."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import Listener
from netns import TIMEOUT, Namespace, run, veth
from programs import Program
from recipes import load, recipe
from redis_server import RedisServer

pytestmark = pytest.mark.slow

SERVER = "192.0.2.1"
HERE, THERE = "127.0.0.2", "127.0.0.3"  # senders

both_signals = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


@contextlib.contextmanager
def host(directory: Path, name: str) -> Iterator[tuple[Program, Listener]]:
    """A filter of the fleet, and what it protects."""
    directory.mkdir(exist_ok=True)
    arguments = (f"redis://{SERVER}", directory / "policy.json", "--name", name)
    with (
        recipe("fleet", directory, "fleet.py", "fleet.v4", *arguments) as program,
        contextlib.closing(Listener()) as listener,
    ):
        yield program, listener


def refuses(filtered: tuple[Program, Listener], version: int, bad: str, good: str) -> None:
    """A host refuses one sender by that version of the policy, and not the other."""
    program, listener = filtered
    listener.refuse(bad, program, f"{bad} is refused by policy {version}")
    listener.greet(good)


def push(directory: Path, *blocked: str) -> None:
    subprocess.run(
        [sys.executable, directory / "push.py", f"redis://{SERVER}", *blocked],
        check=True,
        timeout=TIMEOUT,
    )


def ends(program: Program, signum: signal.Signals) -> None:
    """A signal ends it in order. What it has logged names the errors of connections."""
    program.process.send_signal(signum)
    assert program.process.wait(TIMEOUT) == 0
    assert "Traceback" not in program.output


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    run(f"ip address add {SERVER}/24 dev lo")
    with RedisServer(tmp_path / "redis") as server:
        yield server


@both_signals
def test_follows(tmp_path: Path, server: RedisServer, signum: signal.Signals) -> None:
    """A host takes a new policy while it runs, and keeps it when redis is away."""
    server.client.set("policy", f'{{"version": 0, "blocked": ["{HERE}"]}}')
    with host(tmp_path / "host", "host") as filtered:
        program, _ = filtered
        refuses(filtered, 0, HERE, THERE)
        push(tmp_path / "host", f"{THERE}/32")
        program.wait_for("policy 1 is in force")
        refuses(filtered, 1, THERE, HERE)
        server.kill()
        program.wait_for("redis is away")
        refuses(filtered, 1, THERE, HERE)
        ends(program, signum)


@both_signals
def test_no_policy(tmp_path: Path, signum: signal.Signals) -> None:
    """A host that has had no policy yet ends as well."""
    load("fleet", tmp_path, "fleet.v4")
    url, kept = "redis://127.0.0.1", tmp_path / "policy.json"
    program = Program(tmp_path, [sys.executable, tmp_path / "fleet.py", url, kept])
    try:
        program.wait_for("redis is away")
        ends(program, signum)
    finally:
        program.kill()


def test_fleet(tmp_path: Path, server: RedisServer) -> None:
    """Two hosts have one policy, also after a start without redis, and learn the next."""
    server.client.set("policy", f'{{"version": 0, "blocked": ["{HERE}"]}}')
    with contextlib.closing(Namespace()) as other:
        run(f"ip address delete {SERVER}/24 dev lo")
        veth("eth0", "eth0", other)
        run(f"ip address add {SERVER}/24 dev eth0")
        with other:
            run("ip address add 192.0.2.2/24 dev eth0")
        with contextlib.ExitStack() as stack:
            with host(tmp_path / "here", "here") as here:
                refuses(here, 0, HERE, THERE)
            with other:
                there = stack.enter_context(host(tmp_path / "there", "there"))
                refuses(there, 0, HERE, THERE)
            assert server.client.hgetall("policy:hosts") == {b"here": b"0", b"there": b"0"}
            server.kill()
            here = stack.enter_context(host(tmp_path / "here", "here"))
            here[0].wait_for("redis is away")
            refuses(here, 0, HERE, THERE)
            server.start()
            push(tmp_path / "here", THERE)
            for program, _ in (here, there):
                program.wait_for("policy 1 is in force")
            refuses(here, 1, THERE, HERE)
            with other:
                refuses(there, 1, THERE, HERE)
            server.client.set("policy", "what?")
            server.client.publish("policy", 2)
            for program, _ in (here, there):
                program.wait_for("this policy is refused")
            refuses(here, 1, THERE, HERE)
