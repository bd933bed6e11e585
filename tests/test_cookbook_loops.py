# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/production-loop.md: programs that outlive a packet at which they raise."""

import signal
from pathlib import Path

import pytest
from netns import TIMEOUT, UdpPair
from recipes import recipe

PROGRAMS = [
    "survivor.py",
    "survivor_callbacks.py",
    "survivor_async.py",
    pytest.param("survivor_gevent.py", marks=pytest.mark.gevent),
]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", PROGRAMS)
def test_goes_on(tmp_path: Path, program: str, signum: signal.Signals) -> None:
    """The packet is dropped and logged, those around it pass, and a signal ends the program."""
    with (
        recipe("production-loop", tmp_path, program, "rules.v4") as running,
        UdpPair() as udp,
    ):
        udp.send(b"before", b"boom", b"behind")
        assert [udp.recv(), udp.recv()] == [b"before", b"behind"]
        running.wait_for("RuntimeError: a mistake in the program")
        running.process.send_signal(signum)
        assert running.process.wait(TIMEOUT) == 0, running.output
        assert running.output.endswith("ended\n")
        assert running.output.count("Traceback") == 1
