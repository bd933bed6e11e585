# SPDX-License-Identifier: GPL-2.0-or-later
"""./dev, as far as it gets without any tools."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("seconds", ["0", "08", "-1", "1.5", "x"])
def test_no_time_to_fuzz(seconds: str, tmp_path: Path) -> None:
    """It is refused: libFuzzer goes on for ever if it gets 0 seconds, and 08 is no number to sh."""
    dirname = shutil.which("dirname")
    assert dirname is not None
    (tmp_path / "dirname").symlink_to(dirname)
    done = subprocess.run(
        [ROOT / "dev", "fuzz", seconds],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"./dev: not a number of seconds: {seconds}\n"
