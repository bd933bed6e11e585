# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/testing.md says beside its blocks, in pytest as its readers run it."""

import importlib.metadata
import re
from pathlib import Path

from pytests import run_passing

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "testing.md").read_text()
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


def test_without_privileges(tmp_path: Path) -> None:
    """The fixture works where the real kernel refuses."""
    (tmp_path / "test_program.py").write_text(NO_PRIVILEGES)
    assert "2 passed" in run_passing(tmp_path)


def test_unused(tmp_path: Path) -> None:
    """The plugin loads nothing of its own until its fixture is used."""
    (tmp_path / "test_program.py").write_text(UNUSED)
    assert "1 passed" in run_passing(tmp_path)


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
