# SPDX-License-Identifier: GPL-2.0-or-later
"""What many kept packets cost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from netns import TIMEOUT

pytestmark = pytest.mark.slow  # seconds for each number

# Bytes of resident memory, which depends on the allocator: twice what was measured, and a fraction
# of a whole buffer, which has 64 KiB.
PER_PACKET = 1000  # of objects for a packet, besides its message: measured 440 to 500
PER_VIEW = 12_500  # of a live view of 1428 bytes and its buffer: measured 6200


class Cost(NamedTuple):
    """What keeping.py has measured."""

    kept: int  # bytes
    dropped: int  # bytes
    intact: bool
    errors: int


def cost(what: str, count: int, size: int, most: int) -> Cost:
    """Measures in a process of its own, in this thread's namespace.

    No more memory is touched there than the program touches: AddressSanitizer, where it is loaded,
    does not fill what is allocated, nor does a debug build of Python.
    """
    program = Path(__file__).parent / "support" / "keeping.py"
    arguments = [sys.executable, str(program), what, str(count), str(size), str(most)]
    environment = dict(os.environ)
    environment["ASAN_OPTIONS"] = (
        f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=0:max_malloc_fill_size=0"
    )
    if hasattr(sys, "gettotalrefcount"):
        environment.setdefault("PYTHONMALLOC", "pymalloc")
    done = subprocess.run(
        arguments, env=environment, check=True, stdout=subprocess.PIPE, timeout=4 * TIMEOUT
    )
    return Cost(**json.loads(done.stdout))


@pytest.mark.parametrize(("size", "most"), [(1400, 64), (1400, 1), (100, 7)])
def test_packets_cost_their_own_bytes(size: int, most: int) -> None:
    """A hundred thousand kept packets cost their messages and an object each, not their batches.

    A message is the data, 28 bytes of headers and some 70 of attributes.
    """
    count = 100_000
    measured = cost("packets", count, size, most)
    assert measured.intact
    assert measured.errors == 0
    assert size < measured.kept / count < size + 28 + 70 + PER_PACKET
    assert measured.dropped < measured.kept / 10


@pytest.mark.parametrize(("what", "most"), [("views", 1), ("views", 64), ("both", 1), ("both", 64)])
def test_views_stay_right(what: str, most: int) -> None:
    """Many live views stay right, hold no whole buffer each, and give their memory back."""
    count = 20_000
    measured = cost(what, count, 1400, most)
    assert measured.intact
    assert measured.errors == 0
    packet = 0 if what == "views" else 1400 + 28 + 70 + PER_PACKET
    assert measured.kept / count < PER_VIEW + packet
    assert measured.dropped < measured.kept / 10
