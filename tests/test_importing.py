# SPDX-License-Identifier: GPL-2.0-or-later
"""What `import libnetfilterqueue` costs."""

import resource
import subprocess
import sys

from netns import TIMEOUT

import libnetfilterqueue as nfq

TUPLES = ("Conntrack", "HandleStats", "QueueStatus", "Vlan")
MODULES = "import sys; print(*sys.modules, sep='\\n')"


def output(program: str) -> str:
    """What the program prints, in an interpreter of its own where warnings are errors."""
    command = [sys.executable, "-P", "-W", "error", "-c", program]  # -P: not the checkout
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=TIMEOUT
    ).stdout


def loaded(program: str) -> set[str]:
    """The modules that there are after the program."""
    modules = output(f"{program}; {MODULES}").splitlines()
    # A debug build of Python looks up the codec in which the linker is told an extension's name.
    return {name for name in modules if not name.startswith("encodings.")}


def cpu_seconds(program: str) -> float:
    """CPU time of an interpreter that runs the program: a busy machine adds little to it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output(program)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_modules() -> None:
    """The import loads only the modules that enum loads: no typing, re or ctypes."""
    modules = loaded("import libnetfilterqueue") - loaded("import enum")
    assert modules == {f"libnetfilterqueue{name}" for name in ("", "._ext", ".constants")}


def test_time() -> None:
    """The import takes less than 20 ms; in slow builds less than Python's start."""
    runs = range(10)
    start = min(cpu_seconds("pass") for _ in runs)
    importing = min(cpu_seconds("import libnetfilterqueue") for _ in runs)
    assert importing - start < max(0.02, start)


def test_tuples() -> None:
    """Classes that are loaded on demand are the same each time, and listed before."""
    unasked = "import libnetfilterqueue as nfq; print(*dir(nfq), sep='\\n')"
    assert {*TUPLES} < {*nfq.__all__} < {*output(unasked).splitlines()}
    for name in TUPLES:
        assert getattr(nfq, name) is getattr(nfq, name)
    with nfq.open() as handle:
        assert type(handle.stats()) is nfq.HandleStats


def test_missing() -> None:
    """A name that isn't there is missed as in any module."""
    assert not hasattr(nfq, "typing")
    assert not hasattr(nfq, "tuple")
