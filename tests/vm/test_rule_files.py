# SPDX-License-Identifier: GPL-2.0-or-later
"""The files for nft that pages show load as they are, and send packets to their queues."""

import socket
from pathlib import Path

import pytest
from netns import LOOPBACK, TIMEOUT, run
from pages import ROOT, Block, blocks
from queues import Handle, keeping, receive

FILES = [
    block
    for page in sorted(ROOT.glob("docs/**/*.md"))
    for block in blocks(page)
    if block.language == "nft"
]


def load(block: Block, directory: Path) -> None:
    assert block.file is not None
    path = directory / block.file
    path.write_text(block.text)
    run(f"nft -f {path}")


@pytest.mark.parametrize("block", FILES, ids=lambda block: block.place)
def test_loads(block: Block, tmp_path: Path) -> None:
    """A file loads where no rules are, and again, and leaves its rules once."""
    load(block, tmp_path)
    once = run("nft list ruleset")
    load(block, tmp_path)
    assert run("nft list ruleset") == once
    assert "queue" in once


def test_dns(handle: Handle, tmp_path: Path) -> None:
    """The first file queues queries of this host, and lets them pass while nobody listens."""
    load(FILES[[block.file for block in FILES].index("dns.nft")], tmp_path)
    for family in (socket.AF_INET, socket.AF_INET6):
        with (
            socket.socket(family, socket.SOCK_DGRAM) as server,
            socket.socket(family, socket.SOCK_DGRAM) as client,
        ):
            server.settimeout(TIMEOUT)
            server.bind((LOOPBACK[family], 53))
            client.connect(server.getsockname())
            client.send(b"alone")
            assert server.recv(100) == b"alone"
            packets = keeping(handle)
            client.send(b"seen")
            packet = receive(handle, packets)
            packet.accept()
            assert server.recv(100) == b"seen"
            packet.queue.destroy()
