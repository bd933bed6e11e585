# SPDX-License-Identifier: GPL-2.0-or-later
"""What a packet costs: here, in C, and in other Python packages. Run by ./dev bench.

All consumers of a table take turns, round by round, each in a network namespace of its own; a table
says medians and quartiles over the rounds, and ratios formed round by round to the C limit, which
is the C consumer that does least: batch_verdict.c, where no packet is held. All are started anew
after a third of the rounds.

The rows stand in `tables()`; lab.py has the measurements, consumers.py and *.c what is measured,
report.py the output. A full run writes results.json, and from it the plots beside this file and,
with what other-machine.json has, the table of docs/performance.md. One that was cut short by an
option leaves the page as it is, and writes the others to build/bench.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dispatch import Instructions
from lab import Burst, Download, Figures, MeasurementError, PingPong, Stream, Subject
from page import OTHER, fill
from plots import draw
from report import Metric, Results, as_json

import libnetfilterqueue as nfq

HERE = Path(__file__).resolve().parent
BUILT = HERE.parent / "build" / "bench"
COMPILER = os.environ.get("CC", "cc")
LIBRARIES = ("libnetfilter_queue", "libnfnetlink", "libmnl")
PACKAGES = ("NetfilterQueue", "fnfqueue", "gevent", "trio", "uvloop")

# A Python without the GIL, into whose packages this one is installed.
FREE_THREADED = os.environ.get("FREE_THREADED", "python3.13t")

LIMIT = "C, batch verdict"
CPU = Metric("cpu", "us of CPU a packet")
RATE = Metric("rate", "packets/s", 0, spread=False)
LATENCY = (Metric("p50", "p50, us"), Metric("p99", "p99, us"))
THROUGHPUT = (Metric("rate", "Mbit/s", 0), Metric("cpu", "us of CPU a packet"))
TRANSFER = (Metric("queued", "packets queued", 0), Metric("rate", "MB/s", 0))
DOWNLOAD = 10_000_000  # bytes
STARTS = 3  # of each consumer: where its memory lies this time is worth some per cent
INSTRUCTIONS = (Metric("instructions", "instructions a packet", 0, spread=False),)


@dataclass(frozen=True)
class Row:
    """Something to measure."""

    label: str
    start: Callable[[], Subject]
    needs: tuple[str, ...] = ()  # modules and programs


@dataclass(frozen=True)
class Table:
    """Rows that take turns."""

    title: str
    metrics: tuple[Metric, ...]
    rows: list[Row]
    limit: str | None = LIMIT
    rounds: int | None = None  # without a warm-up round


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    packets: int  # a round, those of 64 bytes
    seconds: int  # of TCP a round


# The rows


def c(program: str, action: str = "accept", count: int = 0, flags: int = 0) -> list[str]:
    """The command of a C consumer."""
    return [str(BUILT / program), action, str(count), str(flags)]


def python(loop: str, action: str = "accept", count: int = 0, flags: int = 0) -> list[str]:
    """The command of a Python consumer."""
    return [sys.executable, str(HERE / "consumers.py"), loop, action, str(count), str(flags)]


C_CONSUMERS = {
    "C, one by one": c("one_by_one"),
    "C, libnetfilter_queue's callback loop": c("callback_loop"),
    "C, batched": c("batched"),
    LIMIT: c("batch_verdict"),
}
ADAPTERS = {
    "asyncio, attached": ("asyncio_attached", "libnetfilterqueue.aio"),
    "asyncio, stream": ("asyncio_stream", "libnetfilterqueue.aio"),
    "asyncio, get_batch": ("asyncio_batches", "libnetfilterqueue.aio"),
    "asyncio, serve": ("asyncio_serve", "libnetfilterqueue.aio"),
    "asyncio, serve, suspended": ("asyncio_suspended", "libnetfilterqueue.aio"),
    "uvloop, attached": ("uvloop_attached", "libnetfilterqueue.aio", "uvloop"),
    "uvloop, stream": ("uvloop_stream", "libnetfilterqueue.aio", "uvloop"),
    "uvloop, get_batch": ("uvloop_batches", "libnetfilterqueue.aio", "uvloop"),
    "uvloop, serve": ("uvloop_serve", "libnetfilterqueue.aio", "uvloop"),
    "uvloop, serve, suspended": ("uvloop_suspended", "libnetfilterqueue.aio", "uvloop"),
    "gevent, attached": ("gevent_attached", "libnetfilterqueue.green", "gevent"),
    "gevent, stream": ("gevent_stream", "libnetfilterqueue.green", "gevent"),
    "gevent, get_batch": ("gevent_batches", "libnetfilterqueue.green", "gevent"),
    "gevent, serve": ("gevent_serve", "libnetfilterqueue.green", "gevent"),
    "trio, attached": ("trio_attached", "libnetfilterqueue.trio", "trio"),
    "trio, stream": ("trio_stream", "libnetfilterqueue.trio", "trio"),
    "trio, get_batch": ("trio_batches", "libnetfilterqueue.trio", "trio"),
    "trio, serve": ("trio_serve", "libnetfilterqueue.trio", "trio"),
}
# What CPython and the kernel take whatever a handle is like: extension/bare.c in its place.
BARE = {
    "bare extension, process": ("bare_process",),
    "bare extension, manual loop": ("bare_manual",),
    "bare extension, asyncio": ("bare_asyncio",),
    "bare extension, uvloop": ("bare_uvloop", "uvloop"),
}
PEERS = ("NetfilterQueue", "fnfqueue")
# What builds those of other languages, in their directories of peers.
OTHER_LANGUAGES = {
    "nfq-rs": (
        *("cargo", "install", "--quiet", "--force", "--path", "."),
        *("--root", str(BUILT), "--target-dir", str(BUILT / "target")),
    ),
    "go-nfqueue": ("go", "build", "-o", str(BUILT / "bin" / "go-nfqueue")),
}


def can_rewrite() -> bool:
    """Whether a verdict can carry a payload."""
    return "payload" in inspect.signature(nfq.NetfilterQueueData.set_verdict).parameters


def simple_consumers() -> Iterator[tuple[str, list[str], tuple[str, ...]]]:
    """All that accept packets and do nothing else: label, command, what they need."""
    for label, command in C_CONSUMERS.items():
        yield label, command, ()
    yield "process", python("process"), ()
    yield "manual loop", python("manual"), ()
    yield "stream", python("stream"), ()
    for label, (loop, *needs) in (ADAPTERS | BARE).items():
        yield label, python(loop), tuple(needs)
    for peer in PEERS:
        yield peer, python(peer.lower()), (peer.lower(),)
    for peer in OTHER_LANGUAGES:
        program = str(BUILT / "bin" / peer)
        yield peer, [program, "accept"], (program,)


def accepted(scale: Scale) -> Table:
    """The main table."""

    def start(command: list[str], held: int = 0) -> Callable[[], Subject]:
        return lambda: Burst(command, scale.packets, 64, held=held)

    rows = [Row(label, start(command), needs) for label, command, needs in simple_consumers()]
    variants = [
        Row("process, payload read", start(python("process", "read"))),
        Row("process, every tenth marked", start(python("process", "mark"))),
        Row("process, one packet kept", start(python("process", "park", 1), held=1)),
    ]
    if can_rewrite():
        variants.append(Row("process, payload rewritten", start(python("process", "rewrite"))))
    after = 1 + [row.label for row in rows].index("process")
    rows[after:after] = variants
    return Table("64-byte packets, accepted", (CPU, RATE), rows)


def dropped(scale: Scale) -> Table:
    """The same packets, dropped."""

    def start(command: list[str]) -> Callable[[], Subject]:
        return lambda: Burst(command, scale.packets, 64, accepted=False)

    rows = [
        *(
            Row(label, start([command[0], "drop", *command[2:]]))
            for label, command in C_CONSUMERS.items()
        ),
        Row("process", start(python("process", "drop"))),
        *(Row(peer, start(python(peer.lower(), "drop")), (peer.lower(),)) for peer in PEERS),
    ]
    return Table("64-byte packets, dropped", (CPU, RATE), rows)


def sized(scale: Scale, size: int, fewer: int) -> Table:
    """Larger packets, fewer of them."""

    def start(command: list[str]) -> Callable[[], Subject]:
        return lambda: Burst(command, max(scale.packets // fewer, 64), size)

    rows = [
        Row("C, one by one", start(c("one_by_one"))),
        Row(LIMIT, start(c("batch_verdict"))),
        Row("process", start(python("process"))),
        Row("process, payload read", start(python("process", "read"))),
        Row("manual loop", start(python("manual"))),
    ]
    for peer in PEERS:
        note = " (4,016 bytes copied)" if peer == "NetfilterQueue" and size > 4016 else ""
        rows.append(Row(peer + note, start(python(peer.lower())), (peer.lower(),)))
    return Table(f"{size:,}-byte packets, accepted", (CPU, RATE), rows)


def parallel(scale: Scale, interpreter: str, loop: str, title: str) -> Table:
    """Whether two queues take what two processors can do."""
    one = "one queue"

    def start(loop: str, queues: int) -> Callable[[], Subject]:
        command = [interpreter, *python(loop, "drop")[1:]]
        packets = scale.packets * queues
        everywhere = contextlib.nullcontext()
        return lambda: Burst(command, packets, 64, accepted=False, queues=queues, place=everywhere)

    rows = [
        Row(one, start("process", 1), (interpreter,)),
        Row(f"two queues, {loop.replace('_', ' ')}", start(loop, 2), (interpreter,)),
    ]
    return Table(title, (RATE, CPU), rows, limit=one)


def pending(scale: Scale) -> Table:
    """Packets that wait for their verdict meanwhile."""
    rows = [Row(LIMIT, lambda: Burst(c("batch_verdict"), scale.packets, 64))]
    for count in (1, 1000, 30_000):
        # Older kernels search for a packet from the oldest one on.
        packets = max(scale.packets // (20 if count == 30_000 else 1), 64)
        for action, text in (
            ("park", "left for good"),
            ("defer", "each answered in turn"),
            ("shuffle", "answered in any order"),
        ):
            for label, command in (
                ("C, one by one", c("one_by_one", action, count)),
                ("process", python("process", action, count)),
            ):
                sent = packets if action == "park" else scale.packets
                rows.append(Row(f"{label}, {count:,} {text}", _pending(command, sent, count)))
    return Table("64-byte packets, others pending", (CPU, RATE), rows)


def _pending(command: list[str], packets: int, count: int) -> Callable[[], Subject]:
    return lambda: Burst(command, packets, 64, held=count)


def latency(scale: Scale) -> Iterator[Table]:
    """One packet at a time."""
    count = max(scale.packets // 10, 100)

    def start(command: list[str], alone: bool) -> Callable[[], Subject]:
        return lambda: PingPong(command, count, one_processor=alone)

    for alone, title in ((False, "latency across processors"), (True, "latency on one processor")):
        rows = [
            Row(label, start(command, alone), needs)
            for label, command, needs in simple_consumers()
            if "batch" not in label  # there is nothing to batch
        ]
        yield Table(title, LATENCY, rows, limit="C, one by one")


def throughput(scale: Scale) -> Iterator[Table]:
    """TCP that is forwarded, in packets as large as the device takes, or unsegmented."""

    def start(command: list[str]) -> Callable[[], Subject]:
        return lambda: Stream(command, scale.seconds)

    for flags, title in ((0, "without"), (nfq.NFQA_CFG_F_GSO, "with")):
        rows = [
            Row("C, one by one", start(c("one_by_one", flags=flags))),
            Row(LIMIT, start(c("batch_verdict", flags=flags))),
            Row("process", start(python("process", flags=flags))),
            Row("process, payload read", start(python("process", "read", flags=flags))),
        ]
        if not flags:
            needs = ("netfilterqueue",)
            rows += [
                Row("process, rewritten, with checksums", start(python("process", "checksums"))),
                Row("NetfilterQueue", start(python("netfilterqueue")), needs),
                Row(
                    "NetfilterQueue, rewritten",
                    start(python("netfilterqueue", "set_payload")),
                    needs,
                ),
            ]
        rows.append(Row("fnfqueue", start(python("fnfqueue", flags=flags)), ("fnfqueue",)))
        yield Table(f"TCP {title} NFQA_CFG_F_GSO", THROUGHPUT, rows)


def download() -> Table:
    """What the cookbook's decision once per connection saves, with the rules of its page."""
    page = (HERE.parent / "docs" / "cookbook" / "once-per-connection.md").read_text()
    rules = page.partition("```iptables\n")[2].partition("```")[0]
    each, once = "each packet is queued", "decided once, by a mark"

    def start(action: str) -> Callable[[], Subject]:
        return lambda: Download(python("process", action), rules, DOWNLOAD)

    rows = [Row(each, start("accept")), Row(once, start("once"))]
    return Table("10 MB over TCP", TRANSFER, rows, limit=each)


def dispatch() -> Table:
    """No kernel at all."""

    def row(label: str, action: str, batch: int) -> Row:
        return Row(label, lambda: Instructions(action, batch, BUILT), ("valgrind",))

    rows = [
        row("one message a call", "set_verdict", 1),
        row("64 messages a call", "set_verdict", 64),
        row("64 messages, accept()", "accept", 64),
        row("64 messages, a stream", "stream", 64),
        row("64 messages, payload as bytes", "read", 64),
        row("64 messages, payload as a view", "view", 64),
        row("64 messages, payload as a buffer", "unpack", 64),
        row("64 messages, every tenth marked", "mark", 64),
    ]
    if can_rewrite():
        rows.append(row("64 messages, payload rewritten", "rewrite", 64))
    title = f"handle_packet, no kernel, Python {platform.python_version()}"
    return Table(title, INSTRUCTIONS, rows, limit=None, rounds=1)


def tables(scale: Scale) -> list[Table]:
    """All there is to measure."""
    return [
        accepted(scale),
        dropped(scale),
        sized(scale, 1400, 2),
        sized(scale, 65_531, 20),
        pending(scale),
        parallel(scale, sys.executable, "two_processes", "two processes, dropped"),
        parallel(scale, FREE_THREADED, "two_threads", "free-threaded Python, dropped"),
        *latency(scale),
        *throughput(scale),
        download(),
        dispatch(),
    ]


def selected(table: Table, pattern: re.Pattern[str]) -> Table:
    """The rows that were asked for, and the one that they are compared with."""
    wanted = [row for row in table.rows if pattern.search(f"{table.title}: {row.label}")]
    kept = [row for row in table.rows if row in wanted or (wanted and row.label == table.limit)]
    return replace(table, rows=kept)


# Rounds


class Progress:
    """A line about what is going on; where there is no terminal, one for each table."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._tty = sys.stderr.isatty()
        self._title = ""

    def show(self, title: str, detail: str) -> None:
        """Says what comes now."""
        seconds = time.monotonic() - self._start
        if self._tty:
            print(f"\r\033[K{seconds:5.0f} s  {title}: {detail}"[:100], end="", file=sys.stderr)
        elif title != self._title:
            print(f"{seconds:5.0f} s  {title}", file=sys.stderr)
        self._title = title
        sys.stderr.flush()

    def clear(self) -> None:
        """Makes room for other output."""
        if self._tty:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def missing(row: Row) -> str | None:
    """What a row needs and is not there."""
    for name in row.needs:
        found = shutil.which(name) or ("/" not in name and importlib.util.find_spec(name))
        if not found:
            return f"{Path(name).name} is not there"
    return None


class Measuring:
    """The rows of a table, measured in turns. One that fails is out."""

    def __init__(self, table: Table, progress: Progress) -> None:
        self._table, self._progress = table, progress
        self._round = 0  # of all starts; warm-ups don't count
        reasons = {row.label: missing(row) for row in table.rows}
        self.figures: dict[str, list[Figures]] = {
            label: [] for label, reason in reasons.items() if not reason
        }
        self.reasons = {  # what is still to come says nothing
            label: reason
            for label, reason in reasons.items()
            if reason and "libnetfilterqueue." not in reason
        }

    def _leave_out(self, label: str, error: MeasurementError) -> None:
        self.reasons[label] = str(error)
        del self.figures[label]

    def _start(self, stack: contextlib.ExitStack) -> Iterator[tuple[str, Subject]]:
        for row in self._table.rows:
            if row.label not in self.figures:
                continue
            self._progress.show(self._table.title, f"starting {row.label}")
            try:
                yield row.label, stack.enter_context(contextlib.closing(row.start()))
            except MeasurementError as error:
                self._leave_out(row.label, error)

    def measure(self, rounds: int, *, warm_up: bool) -> None:
        """So many rounds, with processes of their own."""
        with contextlib.ExitStack() as stack:
            subjects = dict(self._start(stack))
            for number in range(rounds + warm_up):
                counts = number >= warm_up
                # Each begins a round once: what happens between rounds hits all alike.
                labels = [label for label in subjects if label in self.figures]
                first = self._round % max(len(labels), 1)
                self._round += counts
                for label in labels[first:] + labels[:first]:
                    self._progress.show(self._table.title, f"round {number}, {label}")
                    try:
                        measured = subjects[label].measure()
                    except MeasurementError as error:
                        self._leave_out(label, error)
                        continue
                    if counts:
                        self.figures[label].append(measured)


def run(table: Table, scale: Scale, progress: Progress) -> Results:
    """Measures all rows of a table."""
    measuring = Measuring(table, progress)
    if table.rounds is not None:
        measuring.measure(table.rounds, warm_up=False)
    else:
        for number in range(min(STARTS, scale.rounds)):
            measuring.measure(len(range(number, scale.rounds, STARTS)), warm_up=True)
    return Results.of(table.title, table.metrics, table.limit, measuring.figures, measuring.reasons)


# Around it


def output_of(*command: str) -> str:
    """The first line that a command prints."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE)
        return done.stdout.strip().partition("\n")[0]
    return "unknown"


def build() -> None:
    """Compiles the C consumers, what others load, and peers whose compilers are there."""
    BUILT.mkdir(parents=True, exist_ok=True)
    command = [COMPILER, "-O2", "-std=gnu11"]
    flags = shlex.split(output_of("pkg-config", "--cflags", "--libs", *LIBRARIES))
    shared = ["-shared", "-fPIC"]
    includes = [f"-I{HERE}", f"-I{sysconfig.get_paths()['include']}"]
    for pattern, suffix, options in (
        ("*.c", "", flags),
        ("preload/*.c", ".so", shared),
        ("extension/*.c", ".so", [*shared, *includes, *flags]),
    ):
        for source in HERE.glob(pattern):
            files = ["-o", str(BUILT / f"{source.stem}{suffix}"), str(source)]
            subprocess.run([*command, *files, *options], check=True)
    for peer, compile_it in OTHER_LANGUAGES.items():
        if shutil.which(compile_it[0]):  # what can't be built is missing from the tables
            subprocess.run(compile_it, check=False, cwd=HERE / "peers" / peer)


def cpu_model() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def version_of(package: str) -> str:
    """A Python package's version."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def facts(scale: Scale) -> dict[str, str]:
    """What the figures depend on."""
    extension = importlib.util.find_spec("libnetfilterqueue._ext")
    assert extension is not None
    assert extension.origin is not None
    asserts = b"__assert_fail" in Path(extension.origin).read_bytes()
    describe = ("git", "-c", "safe.directory=*", "describe", "--always", "--dirty", "--tags")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "version": output_of(*describe),
        "build": "with assertions" if asserts else "without assertions",
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} x {cpu_model()}",
        "load": f"{os.getloadavg()[0]:.2f}",
        "python": f"{platform.python_version()}, {platform.python_compiler()}",
        "compiler": output_of(COMPILER, "--version"),
        **{name: output_of("pkg-config", "--modversion", name) for name in LIBRARIES},
        **{package: version_of(package) for package in PACKAGES},
        "rounds": str(scale.rounds),
        "packets": str(scale.packets),
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure what a packet costs.")
    parser.add_argument("--rounds", type=int, default=7, help="after a warm-up round (%(default)s)")
    parser.add_argument(
        "--packets", type=int, default=20_000, help="of 64 bytes, in a round (%(default)s)"
    )
    parser.add_argument(
        "--only", type=re.compile, metavar="REGEX", help="rows whose 'table: row' matches"
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2000 packets")
    parser.add_argument(
        "--plot",
        action="store_true",
        help="draw the plots of results.json and fill the page's table anew",
    )
    options = parser.parse_args()
    if options.rounds < 1 or options.packets < 1:
        parser.error("at least one round of one packet")
    return options


def main() -> None:
    """Measures and reports."""
    options = arguments()
    if options.plot:
        show(json.loads((HERE / "results.json").read_text()))
        return
    if os.geteuid() != 0:
        sys.exit("bench: needs root, for receive buffers of any size and the kernel's table")
    scale = Scale(options.rounds, options.packets, 1)
    if options.quick:
        scale = Scale(3, 2000, 1)
    build()
    known = facts(scale)
    for name, value in known.items():
        print(f"{name:20}{value}")
    progress = Progress()
    results = []
    for table in tables(scale):
        chosen = selected(table, options.only) if options.only else table
        if chosen.rows:
            results.append(run(chosen, scale, progress))
            progress.clear()
            print("", *results[-1].lines(), sep="\n", flush=True)
    if not results:
        sys.exit(f"no row matches {options.only.pattern!r}")
    complete = scale.rounds >= 7 and scale.packets >= 20_000 and not options.only
    write(HERE if complete else BUILT, known, results)


def show(data: dict[str, Any]) -> None:
    """Brings what shows the figures up to date."""
    draw(HERE, data)
    fill(data)


def keep_other_machine(processor: str) -> None:
    """What was measured on another kind of processor stays, beside what is measured now."""
    former = (HERE / "results.json").read_text()
    if json.loads(former)["facts"]["processor"] != processor:
        OTHER.write_text(former)


def write(directory: Path, known: dict[str, str], results: list[Results]) -> None:
    """Leaves the results in files."""
    data = as_json(known, results)
    if directory == HERE:
        keep_other_machine(known["processor"])
    (directory / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    if directory == HERE:
        show(data)
    else:
        draw(directory, data)
    print(f"\nAll figures are in {directory.relative_to(HERE.parent)}/results.json")


if __name__ == "__main__":
    main()
