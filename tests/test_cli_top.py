# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue top`, on a terminal that pyte plays."""

import re
import signal

import pytest
from netns import UdpPair
from programs import COMMAND
from queues import Handle, Packet, process_until
from rich.console import Console
from terminals import OFF, ON, terminal

import libnetfilterqueue as nfq
from libnetfilterqueue.cli import main
from libnetfilterqueue.cli._programs import Program
from libnetfilterqueue.cli._samples import Line, Rates, Sample, lines
from libnetfilterqueue.cli._top_table import make_screen, short
from libnetfilterqueue.testing import FakeKernel
from libnetfilterqueue.tuples import QueueStatus


@pytest.mark.table
@pytest.mark.parametrize(
    ("key", "status"), [(b"q", 0), (b"Q", 0), (b"\x03", 130)], ids=["q", "Q", "Ctrl-C"]
)
def test_terminal(handle: Handle, udp: UdpPair, key: bytes, status: int) -> None:
    """It shows what happens on an alternate screen of 60 columns, until a key ends it."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, maxlen=3)
    with terminal(*COMMAND, "top", "--interval", "0.05", "--maxlen", "3") as shown:
        shown.wait_until(lambda: re.search(r"^    1       0 +0 +0 ", shown.text, re.MULTILINE))
        udp.send(*[b"data"] * 5)
        process_until(handle, lambda: len(packets) == 3)
        row = r"^    1       3 \u2588{8} +0 +0 +0       2 \S"
        shown.wait_until(lambda: re.search(row, shown.text, re.MULTILINE))
        assert "queue waiting of 3     pkts/s verd/s drops/s dropped program" in shown.text
        assert ON in shown.received
        assert OFF not in shown.received
        shown.press(key)
        shown.ends(status)


@pytest.mark.table
def test_other_keys() -> None:
    """Other keys show at once what is new."""
    with terminal(*COMMAND, "top", "--interval", "86400") as shown:
        shown.wait_until(lambda: "0 bound" in shown.text)
        with nfq.open() as handle:
            handle.create_queue(7, print)
            shown.press(b" ")
            shown.wait_until(lambda: "1 bound" in shown.text)
        shown.process.send_signal(signal.SIGTERM)
        shown.ends(0)


def test_no_terminal(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a line says so."""
    assert main(["top"]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("libnetfilterqueue top: standard output is not a terminal")


def shown_lines(width: int, *lines: Line) -> list[str]:
    """What is on a screen of that width."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(make_screen(Sample(0.0, 0.0, {}), list(lines), 1024, width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_widest() -> None:
    """The largest numbers fit on 60 columns; on 80 the headings are whole words."""
    status = QueueStatus(65535, 7, 2**31, nfq.NFQNL_COPY_PACKET, 65531, 2**31, 2**31, 2**32 - 1)
    rates = Rates(999949.0, 5e8, 5e8)
    line = Line(status, Program(7, "python filters/filter.py --long"), rates, 999949.0)
    assert shown_lines(60, line)[2:] == [
        "queue    waiting of 1024  pkts/s verd/s drops/s dropped pro…",
        "65535 2147483648 ████████ 999.9k 999.9k    1.0G    4.3G fil…",
    ]
    assert shown_lines(80, line)[2:] == [
        "queue    waiting of 1024  packets/s verdicts/s drops/s dropped program",
        "65535 2147483648 ████████    999.9k     999.9k    1.0G    4.3G filter.py --long",
    ]


def test_first_sample() -> None:
    """Without a sample before there are no rates."""
    status = QueueStatus(1, 7, 0, nfq.NFQNL_COPY_PACKET, 65531, 0, 0, 5)
    assert shown_lines(60, Line(status, None, None))[-1].split() == [*"10---0?"]


def test_verdict_rate(nfqueue: FakeKernel) -> None:
    """Verdicts are packets that came and are gone, and that the kernel has not dropped."""
    with nfq.open() as handle:
        packets: list[Packet] = []
        handle.create_queue(1, packets.append, maxlen=4)
        nfqueue.enqueue_all([b"data"] * 3)
        handle.process()
        before = Sample.take()._replace(monotonic=0.0)
        for packet in packets:
            packet.accept()
        nfqueue.enqueue_all([b"data"] * 6)  # two of them find the queue full
        handle.process()
        packets[3].drop()
        (line,) = lines(before, Sample.take()._replace(monotonic=2.0))
        assert line.rates == Rates(2.0, 1.0, 0.0)
        assert line.verdicts == 2.0  # 4 in 2 s
        for packet in packets[4:]:
            packet.drop()


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.04, "0.0"), (999, "999"), (999.96, "1.0k"), (1500, "1.5k"), (2.5e9, "2.5G")],
)
def test_short(number: float, text: str) -> None:
    """Numbers are as long as can be read at a glance."""
    assert short(number) == text
