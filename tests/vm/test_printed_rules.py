# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of nft that `libnetfilterqueue rules` prints queue what they are to queue."""

import pytest
from netns import Namespace
from queued_traffic import (
    FORWARD,
    Case,
    check_bypass,
    check_case,
    check_fanout,
    check_forward,
    each_case,
    printed_commands,
)
from queues import Handle

from libnetfilterqueue.cli import main


@each_case
def test_nft(case: Case, handle: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    """They queue the traffic and no other, and are found again."""
    commands = printed_commands(case.arguments, "nft", capsys)
    check_case(case, commands, handle)
    assert main(["rules"]) == 0
    (found,) = capsys.readouterr().out.splitlines()[1:]
    assert found.startswith("    1  nft add rule ")
    family, table, chain = commands[-1].split()[3:6]
    assert found.split()[4:7] == [family, table, chain]


def test_forward(handle: Handle, netns: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    """So do those for what is forwarded from one device to another."""
    check_forward(printed_commands(FORWARD, "nft", capsys), handle, netns)


def test_fanout(handle: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    """Several queues share packets by processor."""
    commands = printed_commands("--proto udp --fanout", "nft", capsys, queue="1-4")
    check_fanout(commands, handle)


@pytest.mark.parametrize(("option", "arrived"), [("", []), ("--bypass", [b"data"])])
def test_bypass(option: str, arrived: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    """While nobody listens packets are dropped; with --bypass they pass."""
    arguments = f"--sport 9998 --proto udp --hook input {option}"
    check_bypass(printed_commands(arguments, "nft", capsys), arrived)
