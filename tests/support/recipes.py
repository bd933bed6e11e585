# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of the cookbook's pages, run as they stand there, with the rules of the page."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from netns import iptables, run
from pages import ROOT, blocks
from programs import Program


def load(name: str, directory: Path, rules: str) -> None:
    """Writes all files of a page, and loads one with rules."""
    for block in blocks(ROOT / "docs" / "cookbook" / f"{name}.md"):
        if block.file is not None:
            (directory / block.file).write_text(block.text)
    command = "nft -f" if rules.endswith(".nft") else "iptables-restore"
    run(f"{command} {directory / rules}")


@contextlib.contextmanager
def recipe(
    name: str, directory: Path, program: str, rules: str, *arguments: object
) -> Iterator[Program]:
    """A program of a page runs on its queue, with its rules, for the length of the block."""
    load(name, directory, rules)
    running = Program(directory, [sys.executable, directory / program, *arguments])
    try:
        running.wait_for("ueue 1 is bound")
        yield running
    finally:
        running.kill()


def dropped(chain: str) -> int:
    """How many packets the rules in a chain of `mangle` have dropped."""
    lines = iptables(f"-t mangle -nvxL {chain}").splitlines()
    return sum(int(line.split()[0]) for line in lines if "DROP" in line.split())
