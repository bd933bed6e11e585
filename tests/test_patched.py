# SPDX-License-Identifier: GPL-2.0-or-later
"""gevent's monkey-patching: the suite of test_loops.py and test_green.py in a patched process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from netns import TIMEOUT

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
TESTS = Path(__file__).parent


@pytest.mark.slow  # every test of these files runs a second time
@pytest.mark.parametrize("name", ["test_loops.py", "test_green.py"])
def test_suite_under_monkey_patching(name: str) -> None:
    """All tests of gevent and of asyncio pass in a process that gevent has patched."""
    floods = ["-k", "not asyncio or not (flood or slow)"]  # which fill a thread's time
    options = ["-q", "-p", "no:cacheprovider", *floods, str(TESTS / name)]
    command = [sys.executable, "-P", "-c", PROGRAM, *options]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=4 * TIMEOUT, cwd=TESTS.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 20
    assert "skipped" not in done.stdout
