# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue demo`, as a program of its own."""

import os
import re
import subprocess
import sys

import pytest
from capabilities import only
from netns import TIMEOUT, run
from programs import COMMAND

from libnetfilterqueue.cli._demo import ROW, add_rule
from libnetfilterqueue.cli._errors import CommandError


def demo(*under: str) -> "subprocess.CompletedProcess[str]":
    command = [*under, *COMMAND, "demo"]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def test_demo() -> None:
    """The demo shows packets of both conversations, and one is dropped."""
    done = demo()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\n 1 LOCAL_OUT >lo TCP S  .* ACCEPT\n", done.stdout)
    assert re.search(r"\n\d\d LOCAL_IN  lo> UDP    .* ACCEPT\n", done.stdout)
    assert len(re.findall(r" UDP    .* 0x2a .* DROP\n", done.stdout)) == 1
    assert re.search(r"\n\d+ packets in \d+ ms: \d+ accepted, 1 dropped\.", done.stdout)


def test_fits_on_a_terminal() -> None:
    """No line is longer than 80 columns, and what stands below each other is in one column."""
    lines = demo().stdout.splitlines()
    assert max(map(len, lines)) <= 80
    heading, *rows = lines[next(n for n, line in enumerate(lines) if line.startswith("id ")) :]
    rows = rows[: rows.index("")]
    assert len(rows) > 10
    assert {row.rindex(" ") + 1 for row in rows} == {heading.index("verdict")}


def test_fits_with_the_widest() -> None:
    """The demo's lines fit also with the long user numbers of directories."""
    row = ["17", "LOCAL_OUT", ">lo", "TCP PA", "127.0.0.1:65535", "127.0.0.1:65535"]
    assert len(ROW.format(*row, 70, "0x2a", 1234567, "ACCEPT")) <= 80


def test_rules_stay() -> None:
    """The demo's rules are in a namespace of its own."""
    before = run("iptables-save") + run("ip6tables-save")
    assert demo().returncode == 0
    assert run("iptables-save") + run("ip6tables-save") == before


def test_without_privileges() -> None:
    """A user without privileges gets a user namespace of their own."""
    done = demo("unshare", "--user", "--map-user", "65534", "--map-group", "65534")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\n\d+ packets in \d+ ms: \d+ accepted, 1 dropped\.", done.stdout)


def test_no_namespace() -> None:
    """If the system gives no namespace, a line says what would allow it."""
    done = demo(*only())
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.match(r"libnetfilterqueue demo: no private network namespace here \(.+\); ", line)
    assert "user.max_user_namespaces" in line


def test_no_iptables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without iptables an error names the package."""
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(CommandError, match=r"iptables is missing.*apt install iptables"):
        add_rule("-L")


def test_refused_rule() -> None:
    """If a rule is refused, an error has what iptables says."""
    with pytest.raises(CommandError, match=r"iptables failed: .*no-such-target"):
        add_rule("-A OUTPUT -j no-such-target")


def test_failing_conversation() -> None:
    """A conversation that fails says why, and is no success."""
    code = """
from libnetfilterqueue.cli import _demo, main
_demo.TCP_PORT = 0  # where nobody listens
raise SystemExit(main(["demo"]))
"""
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("libnetfilterqueue demo: the conversations failed: ")


def test_full_disk() -> None:
    """If the output can't be written, a line says so."""
    command = [*COMMAND, "demo"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "libnetfilterqueue demo: No space left on device\n"


def test_broken_pipe() -> None:
    """The demo ends silently when nobody reads its output."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "demo"],
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # all of it fits the buffer
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
