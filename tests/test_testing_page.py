# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/testing.md: all its blocks are run, by pytest as its readers run it, without privileges."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

from available import GEVENT
from capabilities import only

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "testing.md").read_text()
FILES: dict[str, str] = dict(
    re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)

NO_PRIVILEGES = """
import os
import re
from pathlib import Path

import pytest

import libnetfilterqueue as nfq

REAL_OPEN = nfq.open


def test_no_privileges():
    assert re.search(r"^CapEff:\\t0+$", Path("/proc/self/status").read_text(), re.MULTILINE)
    with nfq.open() as handle, pytest.raises(PermissionError, match="CAP_NET_ADMIN"):
        handle.create_queue(1, print)


def test_fixture(nfqueue):
    assert nfq.open != REAL_OPEN
    with nfq.open() as handle:
        handle.create_queue(1, nfq.NetfilterQueueData.accept, mode=nfq.NFQNL_COPY_PACKET)
        packet = nfqueue.enqueue(b"data")
        handle.process()
        assert packet.passed
"""

UNUSED = """
import sys


def test_unused():
    assert "libnetfilterqueue.pytest_plugin" in sys.modules
    assert not {"libnetfilterqueue.testing", "scapy", "gevent", "asyncio"} & set(sys.modules)
"""


def run_pytest(directory: Path, *arguments: str) -> str:
    """What pytest says in that directory of all tests there, run without any capability."""
    command = [*only(), sys.executable, "-W", "error", "-m", "pytest", "-v", *arguments]
    # Others than ours, which are here for our own tests, would want to be configured, or load what
    # ours doesn't: hypothesis, and from Python 3.14 on pdb, asyncio.
    command += ["-p", "no:asyncio", "-p", "no:timeout", "-p", "no:cacheprovider"]
    command += ["-p", "no:hypothesispytest", "-p", "no:debugging"]
    command += ["--rootdir", str(directory), str(directory)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD", None)
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_blocks(tmp_path: Path) -> None:
    """Each block is a file of the reader's, and its tests pass."""
    assert len(FILES) * 2 == PAGE.count("```") >= 18
    files = {name: text for name, text in FILES.items() if GEVENT or "gevent" not in text}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    output = run_pytest(tmp_path)
    for name in files:
        if name.startswith("test_"):
            assert re.search(rf"{name}::test_\w+ PASSED", output), name


def test_readme(tmp_path: Path) -> None:
    """The test in README.md tests the callback in README.md."""
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (test,) = [block for block in blocks if "nfqueue" in block]
    program, _ = blocks[0].split("\n\n\nwith nfq.open()")
    (tmp_path / "test_readme.py").write_text(f"{program}\n\n\n{test}")
    assert "1 passed" in run_pytest(tmp_path)


def test_without_privileges(tmp_path: Path) -> None:
    """Where the real kernel refuses, the fixture works."""
    (tmp_path / "test_program.py").write_text(NO_PRIVILEGES)
    assert "2 passed" in run_pytest(tmp_path)


def test_unused(tmp_path: Path) -> None:
    """The plugin loads nothing of its own until its fixture is used."""
    (tmp_path / "test_program.py").write_text(UNUSED)
    assert "1 passed" in run_pytest(tmp_path)


def test_extra() -> None:
    """The extra that the page names is one of the package's."""
    extra = importlib.metadata.metadata("libnetfilterqueue").get_all("Provides-Extra")
    assert extra is not None
    for name in re.findall(r"'libnetfilterqueue\[(\w+)\]'", PAGE):
        assert name in extra


def test_tests() -> None:
    """The files that the page names are there."""
    names = re.findall(r"`(test_\w+\.py)`", PAGE)
    assert len(names) >= 3
    for name in names:
        assert (Path(__file__).parent / name).exists()
