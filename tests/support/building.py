# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests that build the package have in common."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def environment() -> dict[str, str]:
    """The one that the build system runs in, which is beside the interpreter."""
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    variables.pop("LD_PRELOAD", None)  # a sanitizer's: compilers do without
    return variables
