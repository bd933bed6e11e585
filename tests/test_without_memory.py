# SPDX-License-Identifier: GPL-2.0-or-later
"""Without memory: an exception, and no packet that waits for ever, no crash, no leak.

Each allocation that the extension makes fails in its turn, in a process of its own.
"""

import errno
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from netns import TIMEOUT
from queues import ROUNDS

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parent / "support"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lets allocations fail."""
    library = tmp_path_factory.mktemp("failing") / "malloc.so"
    source = SUPPORT / "failing_malloc.c"
    options = ["-std=gnu11", "-shared", "-fPIC", "-O1", "-g"]
    command = ["gcc", *options, "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return library


# Free-threaded Python has an allocator of its own: only the extension's own allocations fail there.
OBJECTS = not sysconfig.get_config_var("Py_GIL_DISABLED")
# The scenarios, and how many allocations they make at least.
SCENARIOS = {"traffic": 150 if OBJECTS else 50, "opening": 15}
if sys.version_info < (3, 13):  # which crashes when it makes types without memory
    SCENARIOS["importing"] = 50


@pytest.mark.parametrize("last", ["once", "on"])
@pytest.mark.parametrize(("scenario", "least"), SCENARIOS.items())
def test_each_allocation_fails(library: Path, scenario: str, least: int, last: str) -> None:
    """If one allocation or all after it fail, the call is done or raises MemoryError."""
    command = [sys.executable, str(SUPPORT / "without_memory.py"), scenario, last]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    if OBJECTS:
        environment["PYTHONMALLOC"] = "malloc"
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, timeout=4 * TIMEOUT
    )
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    assert result["count"] >= least
    assert result["tried"] >= result["count"] // max(5, 1000 // ROUNDS)
    assert set(result["raised"]) <= {"MemoryError", f"errno {errno.ENOMEM}"}
    assert "MemoryError" in result["raised"]
    assert result["leaks"] == []
