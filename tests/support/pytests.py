# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs pytest as users of the package do, without any capability."""

import os
import subprocess
import sys
from pathlib import Path

from capabilities import only
from netns import TIMEOUT


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What pytest says in that directory of all tests there."""
    command = [*only(), sys.executable, "-W", "error", "-m", "pytest", "-v", *arguments]
    # Others than ours, which are here for our own tests, would want to be configured, or load what
    # ours doesn't: hypothesis, anyio, and from Python 3.14 on pdb, asyncio.
    command += ["-p", "no:asyncio", "-p", "no:timeout", "-p", "no:cacheprovider"]
    command += ["-p", "no:hypothesispytest", "-p", "no:debugging", "-p", "no:anyio"]
    command += ["--rootdir", str(directory), str(directory)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD", None)
    return subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
        check=False,
    )


def run_passing(directory: Path, *arguments: str) -> str:
    """The same of tests that pass."""
    done = run_pytest(directory, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
