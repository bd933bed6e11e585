# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue replay`: a callback or a handler over a capture, on the fake kernel."""

import gzip
import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from netns import TIMEOUT
from programs import COMMAND, Program
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.utils import PcapWriter, RawPcapNgReader
from terminals import terminal

from libnetfilterqueue.cli import main

pytestmark = pytest.mark.slow  # each starts programs

FILTERS = """
import asyncio
import threading

kept = []

def decide(packet):
    data = packet.get_payload()[28:]
    if data == b"drop":
        packet.drop()
    elif data == b"mark":
        packet.accept(mark=0x2a)
    elif data == b"rewrite":
        packet.accept(payload=packet.get_payload() + b"!")
    elif data == b"raise":
        raise ValueError("no \\x1b[31m such thing")
    elif data == b"repeat":
        packet.repeat(mark=7)
    elif data == b"queue":
        packet.requeue(9)
    elif data == b"keep":
        kept.append(packet)
        threading.Timer(0.01, kept.pop().accept).start()
    elif data != b"nothing":
        packet.accept()

async def handle(packet):
    await asyncio.sleep(0.001 * (packet.id % 5))
    if packet.get_payload()[28:] == b"keep":
        packet.accept()
    else:
        decide(packet)

class Filter:
    def __call__(self, packet):
        packet.accept()
    decide = staticmethod(decide)

instance = Filter()

def awaitable(packet):
    return handle(packet)

def talk(packet):
    print("decided")
    packet.accept()
number = 5

def again(packet):
    packet.repeat()

async def again_in_a_task(packet):
    packet.repeat()

def announce(packet):
    print("begun", flush=True)
    threading.Event().wait()

async def announce_in_a_task(packet):
    print("begun", flush=True)
    await asyncio.Event().wait()
"""
BETWEEN = "IP 192.0.2.1.1 > 192.0.2.2.2"
LINES = [  # data, verdict, and what a line has behind the length of the data
    ("accept", "accept", ""),
    ("drop", "drop  ", ""),
    ("mark", "accept", ", mark 0x2a"),
    ("rewrite", "accept", ", rewritten, 35 bytes before"),
    ("raise", "drop  ", ", raised ValueError: no ?[31m such thing"),
    ("nothing", "drop  ", ", by default: {why}"),
    ("repeat", "repeat", ", mark 0x7"),
    ("queue", "queue:9", ", nobody has bound queue 9"),
    ("keep", "accept", ""),
    ("accept", "accept", ""),
]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the filters are, under a name that no other test has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "filters", raising=False)
    (tmp_path / "filters.py").write_text(FILTERS)
    return tmp_path


def datagram(data: str) -> Any:
    return IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2) / data.encode()


def write(path: Path, *data: str) -> Path:
    """A file of datagrams, a second from one to the next, and a frame that is none."""
    frames = [Ether() / datagram(text) for text in data] + [Ether() / ARP()]
    for number, frame in enumerate(frames):
        frame.time = 1_000_000_000 + number
    with PcapWriter(str(path), linktype=1) as file:
        file.write(frames)
    return path


@pytest.fixture
def capture(directory: Path) -> Path:
    """A datagram for each case."""
    return write(directory / "capture.pcap", *(data for data, _, _ in LINES))


def replayed(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """What the command does as a program of its own."""
    command = [*COMMAND, "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


UNDECIDED = {
    "decide": "nobody gave it a verdict, and nobody has it any more",
    "handle": "its handler ended without a verdict",
}


@pytest.mark.parametrize("name", ["decide", "handle", "Filter.decide", "instance.decide"])
def test_lines(capture: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Each packet has a line, with the verdict and as the verdict has left it; then a summary."""
    assert main(["replay", f"filters:{name}", str(capture)]) == 1
    output, errors = capsys.readouterr()
    for (data, verdict, remarks), line in zip(LINES, output.splitlines(), strict=True):
        told = f"{verdict} > {BETWEEN}: UDP, length {len(data)}{remarks}"
        told = told.format(why=UNDECIDED[name.rpartition(".")[2]])
        assert re.fullmatch(rf"\d\d:\d\d:\d\d\.000000 {re.escape(told)}", line)
    assert re.fullmatch(
        r"10 packets in \d+\.\d s\n"
        r"5 accept, 3 drop, 1 repeat, 1 queue:9\n"
        r"1 rewritten, 2 by default\n"
        r"1 frame without an IP packet\n"
        rf"libnetfilterqueue replay: filters:{name} has raised an exception for 1 packet\n",
        errors,
    )


@pytest.mark.parametrize("name", ["decide", "handle"])
def test_json(directory: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """JSON has the packet, and whether and why it has passed."""
    path = write(directory / "capture.pcap", "rewrite", "raise", "nothing")
    assert main(["replay", f"filters:{name}", str(path), "--json"]) == 1
    rewritten, raised, undecided = map(json.loads, capsys.readouterr().out.splitlines())
    assert (rewritten["verdict"], rewritten["passed"], rewritten["default"]) == (
        "accept",
        True,
        None,
    )
    assert (rewritten["rewritten"], rewritten["length"]) == (True, 36)
    assert bytes.fromhex(rewritten["payload"])[28:] == b"rewrite!"
    assert rewritten["timestamp"] == 1_000_000_000
    assert (raised["passed"], raised["error"]) == (False, "ValueError: no \x1b[31m such thing")
    assert (undecided["error"], undecided["rewritten"]) == (None, False)
    assert undecided["default"] == UNDECIDED[name]


def test_default(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--default is what undecided packets get."""
    path = write(directory / "capture.pcap", "nothing", "drop")
    assert main(["replay", "filters:decide", str(path), "--default", "accept"]) == 0
    undecided, decided = capsys.readouterr().out.splitlines()
    assert " accept > " in undecided
    assert ", by default: " in undecided
    assert " drop   > " in decided


@pytest.mark.parametrize("name", ["decide", "handle"])
def test_write(
    directory: Path, capture: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """--write has what would have passed, as it would have passed, at its times."""
    path = directory / "passed.pcapng"
    main(["replay", f"filters:{name}", str(capture), "--write", str(path)])
    assert capsys.readouterr().out != ""
    with RawPcapNgReader(str(path)) as reader:
        packets: list[tuple[bytes, Any]] = list(reader)
    passed = [b"accept", b"mark", b"rewrite!", b"repeat", b"keep", b"accept"]
    assert [data[16 + 28 :] for data, _ in packets] == passed
    assert [meta.comments[0] for _, meta in packets][1:3] == [
        b"accept, mark 0x2a, uid None",
        b"accept, mark 0x0, uid None",
    ]
    times = [((meta.tshigh << 32) + meta.tslow) // 1_000_000 for _, meta in packets]
    assert [when - 1_000_000_000 for when in times] == [0, 2, 3, 6, 8, 9]


def test_pipe(directory: Path, capture: Path) -> None:
    """Both files may be pipes; a capture to standard output comes alone."""
    with capture.open("rb") as file:
        done = subprocess.run(
            [*COMMAND, "replay", "filters:instance", "-", "--write", "-"],
            stdin=file,
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
    path = directory / "passed.pcapng"
    path.write_bytes(done.stdout)
    with RawPcapNgReader(str(path)) as reader:
        assert len(list(reader)) == len(LINES)
    assert done.stderr.startswith(b"10 packets in ")


def test_talkative(capture: Path) -> None:
    """What the function prints is no part of a capture on standard output."""
    command = [*COMMAND, "replay", "filters:talk", str(capture), "--write", "-"]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True)
    assert b"decided" not in done.stdout
    assert done.stderr.count(b"decided\n") == len(LINES)


def test_awaitable(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plain function that returns an awaitable is an error, since nobody would await that."""
    path = write(directory / "capture.pcap", "accept")
    assert main(["replay", "filters:awaitable", str(path)]) == 1
    error = "raised TypeError: it has returned an awaitable, and is no asynchronous function"
    assert capsys.readouterr().out.endswith(f" drop   > {BETWEEN}: UDP, length 6, {error}\n")


def test_attributes(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The function sees the time, and the mark and user that watch has written to the file."""
    write(directory / "capture.pcap", "mark")
    main(["replay", "filters:decide", "capture.pcap", "--write", "marked.pcapng"])
    marked = (directory / "marked.pcapng").read_bytes().replace(b"uid None", b"uid 1000")
    (directory / "marked.pcapng").write_bytes(marked)
    (directory / "seeing.py").write_text(
        "def see(packet):\n    print(packet.timestamp, packet.mark, packet.uid)\n"
    )
    assert main(["replay", "seeing:see", "marked.pcapng", "--default", "accept"]) == 0
    assert "1000000000.0 42 1000\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["decide", "handle"])
def test_many(directory: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """More packets than are in the queue at the same time come in their order."""
    data = [f"{number:04}" for number in range(500)]
    path = write(directory / "capture.pcap", *data)
    assert main(["replay", f"filters:{name}", str(path), "--json"]) == 0
    told = map(json.loads, capsys.readouterr().out.splitlines())
    assert [bytes.fromhex(each["payload"])[28:].decode() for each in told] == data


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("filters:missing", "AttributeError: module 'filters' has no attribute 'missing'"),
        ("missing:decide", "ModuleNotFoundError: No module named 'missing'"),
        ("filters:number", "it can't be called"),
        ("broken:decide", "ZeroDivisionError: division by zero"),
    ],
)
def test_no_function(directory: Path, capture: Path, function: str, error: str) -> None:
    """A line says why there is no such function."""
    (directory / "broken.py").write_text("1 / 0")
    done = replayed(function, capture)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"libnetfilterqueue replay: {function}: {error}\n"


@pytest.mark.parametrize("name", ["again", "again_in_a_task"])
def test_for_ever(capture: Path, name: str) -> None:
    """A packet that comes back for ever ends it."""
    done = replayed(f"filters:{name}", capture)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("libnetfilterqueue replay: packets have come back 100 times by ")


HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
SECTION = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
RECORD = struct.pack("<IIII", 1, 0, 29, 29) + bytes(datagram("x"))


DAMAGE = {  # the bytes of a file, how many packets can be read, and what is wrong
    "empty": (b"", 0, "No data could be read!"),
    "no capture": (b"no capture\n", 0, "Not a supported capture file"),
    "header cut": (HEADER[:10], 0, "Not a supported capture file"),
    "record cut": (HEADER + RECORD[:7], 0, "the file ends within a packet"),
    "no data": (HEADER + RECORD + RECORD[:16], 1, "the file ends within a packet"),
    "data cut": (HEADER + RECORD + RECORD[:20], 1, "the file ends within a packet"),
    "section cut": (SECTION + SECTION[:13], 0, "the file "),
    "small": (SECTION + struct.pack("<III", 6, 12, 12), 0, "the file is damaged: PcapNg: EPB is "),
    "length": (SECTION + struct.pack("<III", 6, 5, 12), 0, "the file is damaged: PcapNg: Invalid "),
    "lengths": (SECTION + struct.pack("<III", 5, 12, 16), 0, "the file is damaged: PcapNg: Inval"),
    "gzip cut": (gzip.compress(HEADER + RECORD)[:-9], 1, "the file is damaged: Compressed file "),
    "link": (HEADER[:-4] + b"\x93\0\0\0" + RECORD, 0, "link type 147 is not known to carry IP"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("command", ["replay filters:instance", "watch --read"])
def test_damaged(
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    damage: str,
) -> None:
    """What can be read of a damaged file is replayed, and then a line says what is wrong."""
    content, packets, error = DAMAGE[damage]
    (directory / "capture.pcap").write_bytes(content)
    assert main([*command.split(), "capture.pcap"]) == 1
    output, errors = capsys.readouterr()
    assert output.count("\n") == packets
    name = "watch: --read capture.pcap" if "--read" in command else "replay: capture.pcap"
    assert errors.splitlines()[-1].startswith(f"libnetfilterqueue {name}: {error}")
    assert "WARNING" not in errors


def test_compressed(directory: Path, capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Captures may be compressed by gzip."""
    path = directory / "capture.pcap.gz"
    path.write_bytes(gzip.compress(capture.read_bytes()))
    assert main(["replay", "filters:instance", str(path)]) == 0
    assert capsys.readouterr().out.count("\n") == len(LINES)


def test_no_file() -> None:
    """A file that is not there has a line."""
    done = replayed("filters:decide", "missing.pcap")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "libnetfilterqueue replay: missing.pcap: No such file or directory\n"


@pytest.mark.parametrize("name", ["announce", "announce_in_a_task"])
def test_interrupted(directory: Path, capture: Path, name: str) -> None:
    """Ctrl-C ends it, also in the function, without a traceback."""
    program = Program(directory, [*COMMAND, "replay", f"filters:{name}", capture], apart=True)
    program.wait_for("begun")
    program.end(signal.SIGINT, 130)


def test_broken_pipe(directory: Path) -> None:
    """When nobody reads its lines any more it ends, without a word about that."""
    path = write(directory / "capture.pcap", *["accept"] * 300)
    reader, writer = os.pipe()
    program = Program(
        directory, [*COMMAND, "replay", "filters:instance", path], apart=True, output=writer
    )
    os.close(writer)
    os.close(reader)
    program.ends()


def test_progress(directory: Path) -> None:
    """On a terminal a bar shows how much of the file is read, below the lines; then it goes."""
    path = write(directory / "capture.pcap", *["accept"] * 300)
    (directory / "slow.py").write_text(
        "import pathlib, time\n"
        "def decide(packet):\n"
        "    while packet.id == 200 and not pathlib.Path('seen').exists():\n"
        "        time.sleep(0.01)\n"
        "    packet.accept()\n"
    )
    with terminal(*COMMAND, "replay", "slow:decide", str(path)) as shown:
        shown.wait_until(lambda: re.search(r"^replay ━.* [1-9]\d?%", shown.text, re.MULTILINE))
        shown.wait_until(lambda: " accept > " in shown.text)
        (directory / "seen").touch()
        shown.wait_until(lambda: shown.process.poll() is not None)
        shown.wait_until(lambda: "300 packets in " in shown.text)
        assert "%" not in shown.text
