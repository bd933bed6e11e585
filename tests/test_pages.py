# SPDX-License-Identifier: GPL-2.0-or-later
"""Every block of every page is run, and does what the page says."""

from pathlib import Path

import pytest
from nameserver import serving
from netns import UdpPair
from pages import ROOT, Reader

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, udp: UdpPair) -> None:
    """Who does what it says, block by block, sees what it says."""
    Reader(tmp_path, udp).read(page)
