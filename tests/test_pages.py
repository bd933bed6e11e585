# SPDX-License-Identifier: GPL-2.0-or-later
"""Every block of every page is run, and does what the page says."""

import socket
from pathlib import Path

import pytest
from nameserver import serving
from netns import UdpPair, run
from pages import ROOT, Reader, anchors, links

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.timeout(180)  # a page may have a dozen programs, which take seconds on a busy machine
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, udp: UdpPair) -> None:
    """Who does what it says, block by block, sees what it says."""
    run("ip address add 192.0.2.1/32 dev lo")  # with none but 127.0.0.1 resolvers ask for nothing
    with serving(socket.AF_INET):
        Reader(tmp_path, udp).read(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Files that it links are there, and so are their headings."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
