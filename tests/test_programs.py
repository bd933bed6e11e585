# SPDX-License-Identifier: GPL-2.0-or-later
"""Every program of the pages and of examples/ runs alone, and ends as asked amid traffic."""

import ast
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import otlp
import pytest
from available import is_available
from capabilities import only
from netns import TIMEOUT, UdpPair, queue_rule
from pages import PAGES, ROOT, blocks, datagram
from programs import EXAMPLES, QUEUE, Program
from redis_server import RedisServer

DEFINITIONS = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
READY = re.compile("[Qq]ueue .* bound|Uvicorn running|Running on")  # from those that say so
PASSING = datagram("passing")
ELSEWHERE = {"conntrack_helper.py"}  # needs a module of the kernel: tests/vm ends it
REDIS = "redis://127.0.0.1"
ARGUMENTS: dict[str, list[object]] = {  # paths are beside it
    "log_packets.py": [Path("log.pcapng")],
    "fleet.py": [REDIS, Path("policy.json")],
    "lookup.py": [REDIS],
}


@contextlib.contextmanager
def redis_with_policy(directory: Path) -> Iterator[None]:
    with RedisServer(directory / "redis") as server:
        server.client.set("policy", '{"version": 0, "blocked": []}')
        yield


SERVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[object]]] = {
    "fleet.py": redis_with_policy,
    "lookup.py": redis_with_policy,
    "metered_otel.py": lambda _: otlp.collector(),
}


class Source(NamedTuple):
    """A program, with the files beside it, and its queue."""

    name: str
    files: dict[str, str]
    arguments: list[object]
    queue: int

    @property
    def text(self) -> str:
        return self.files[self.name]

    def status(self, signum: signal.Signals) -> int:
        """What it ends with. uvicorn ends its application, and then itself by the signal."""
        return -signum if "uvicorn" in self.text and signum == signal.SIGTERM else 0

    def servers(self, directory: Path) -> contextlib.AbstractContextManager[object]:
        """What it talks to runs for the length of the block."""
        return SERVERS.get(self.name, contextlib.nullcontext)(directory)

    @contextlib.contextmanager
    def running(self, directory: Path) -> Iterator[Program]:
        """It runs for the length of the block, with no privilege but the one that it needs."""
        for name, text in self.files.items():
            (directory / name).write_text(text)
        python = [*only("net_admin"), sys.executable, "-W", "always::ResourceWarning"]
        arguments = [
            directory / each if isinstance(each, Path) else each for each in self.arguments
        ]
        program = Program(directory, [*python, directory / self.name, *arguments])
        try:
            yield program
        finally:
            program.kill()


def is_program(text: str) -> bool:
    """Whether it does something, and with this package. Tests do nothing by themselves."""
    runs = any(not isinstance(node, DEFINITIONS | ast.Assign) for node in ast.parse(text).body)
    return runs and "libnetfilterqueue" in text and is_available(text)


def page_programs() -> Iterator[tuple[str, Source]]:
    for page in PAGES:
        python = [block for block in blocks(page) if block.language == "python"]
        named = {block.file: block.text for block in python if block.file}
        for block in python:
            name = block.file or "program.py"
            place = f"{page.relative_to(ROOT)}:{block.line}"
            if name not in ELSEWHERE:
                arguments = ARGUMENTS.get(name, [])
                yield place, Source(name, named | {name: block.text}, arguments, 1)


def examples() -> Iterator[tuple[str, Source]]:
    texts = {path.name: path.read_text() for path in EXAMPLES.glob("*.py")}
    for name in sorted(texts.keys() - ELSEWHERE):
        yield f"examples/{name}", Source(name, texts, [QUEUE], QUEUE)


PROGRAMS = {
    place: source for place, source in (*page_programs(), *examples()) if is_program(source.text)
}


def is_ready(program: Program, udp: UdpPair) -> bool:
    """Whether it says so, or a packet passes. The kernel refuses them until the queue is bound."""
    with contextlib.suppress(PermissionError):
        udp.send(PASSING)
    return bool(READY.search(program.output)) or PASSING in udp.arrivals()


def is_over(program: Program) -> bool:
    return program.process.poll() is not None


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("source", PROGRAMS.values(), ids=PROGRAMS)
def test_end(source: Source, signum: signal.Signals, tmp_path: Path) -> None:
    """It closes what it has opened, so that all packets get verdicts, and shows no traceback."""
    queue_rule(source.queue)
    with UdpPair() as udp, source.servers(tmp_path), source.running(tmp_path) as program:
        end = time.monotonic() + TIMEOUT
        while not is_ready(program, udp):
            if is_over(program):  # by itself: it is about something else than traffic
                program.ends()
                return
            assert time.monotonic() < end, program.output
            time.sleep(0.005)
        udp.send(*(datagram(f"amid{number}") for number in range(20)))
        if signum == signal.SIGINT:  # as a terminal sends it
            os.killpg(program.process.pid, signum)
        else:
            program.process.send_signal(signum)
        program.ends(source.status(signum))


def test_programs() -> None:
    """They are found."""
    assert len(PROGRAMS) >= 50  # fewer where some packages are not to be had
