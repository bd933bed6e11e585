# SPDX-License-Identifier: GPL-2.0-or-later
"""Which event loops and which other bindings this Python has.

There are none of these for every Python without the GIL. Elsewhere it is an error that they are
missing.
"""

import asyncio
import importlib.util
import sysconfig
from collections.abc import Callable


def _available(name: str) -> bool:
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return not free_threaded or importlib.util.find_spec(name) is not None


GEVENT = _available("gevent")
UVLOOP = _available("uvloop")
# Modules that programs of pages import, and can't have here.
MISSING = [
    name for name in ("fnfqueue", "gevent", "netfilterqueue", "uvloop") if not _available(name)
]

NEW_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if UVLOOP:
    import uvloop

    NEW_LOOPS["uvloop"] = uvloop.new_event_loop
