# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/pcapng.md: remarkable packets are in a file, and another host has copies."""

from pathlib import Path

import scenarios


def test_log(tmp_path: Path) -> None:
    """Remarkable packets are logged and duplicated, and all pass."""
    scenarios.logged(tmp_path, "log.v4")
