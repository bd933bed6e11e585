# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of the cookbook's pages, run as they stand there, with the rules of the page."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from netns import run
from pages import ROOT, blocks
from programs import Program


def write(name: str, directory: Path) -> None:
    """Writes all files of a page."""
    for block in blocks(ROOT / "docs" / "cookbook" / f"{name}.md"):
        if block.file is not None:
            (directory / block.file).write_text(block.text)


@contextlib.contextmanager
def recipe(name: str, directory: Path, program: str, rules: str | None = None) -> Iterator[Program]:
    """A program of a page runs on its queue, with its rules, for the length of the block."""
    write(name, directory)
    if rules is not None:
        run(f"{'nft -f' if rules.endswith('.nft') else 'iptables-restore'} {directory / rules}")
    running = Program(directory, [sys.executable, directory / program])
    try:
        running.wait_for("ueue 1 is bound")
        yield running
    finally:
        running.kill()
