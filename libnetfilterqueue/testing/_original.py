# SPDX-License-Identifier: GPL-2.0-or-later
"""Returns the standard library's own functions, also where gevent has patched it."""

import importlib
import sys
from typing import Any


def original(module: str, name: str) -> Any:
    """A function of the standard library's, without what gevent has put in its place."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)
