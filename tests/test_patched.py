# SPDX-License-Identifier: GPL-2.0-or-later
"""gevent's monkey-patching: the suite of test_loops.py and test_green.py in a patched process."""

import re
import subprocess
import sys
from pathlib import Path

from netns import TIMEOUT

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
TESTS = Path(__file__).parent


def test_suite_under_monkey_patching() -> None:
    """Every test of gevent passes in a process in which everything is patched."""
    files = [str(TESTS / name) for name in ("test_loops.py", "test_green.py")]
    command = [sys.executable, "-P", "-c", PROGRAM, "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=4 * TIMEOUT, cwd=TESTS.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 20
    assert "skipped" not in done.stdout
