# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/which-program.md: only some programs may send."""

from pathlib import Path

import scenarios


def test_program(tmp_path: Path) -> None:
    """What other programs than the allowed one send is dropped."""
    scenarios.of_allowed_program(tmp_path, "program.v4")
