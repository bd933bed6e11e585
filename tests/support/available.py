# SPDX-License-Identifier: GPL-2.0-or-later
"""Which event loops, web frameworks, other bindings and programs there are.

gevent, uvloop and FastAPI can't be had for every Python without the GIL; elsewhere it is an error
that they are missing. The other bindings have to be compiled, which a place for testing wheels
can't do. Prometheus is large: only `./dev test --slow` fetches it.
"""

import asyncio
import importlib.util
import re
import shutil
import sysconfig
from collections.abc import Callable


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _available(name: str) -> bool:
    return not sysconfig.get_config_var("Py_GIL_DISABLED") or _installed(name)


GEVENT = _available("gevent")
UVLOOP = _available("uvloop")
FASTAPI = _available("fastapi")
PROMETHEUS = all(map(shutil.which, ("prometheus", "promtool", "prometheus-node-exporter")))
# Modules that programs of pages import, and can't have here.
MISSING = [
    *(name for name in ("gevent", "uvloop", "fastapi") if not _available(name)),
    *(binding for binding in ("fnfqueue", "netfilterqueue") if not _installed(binding)),
]


def is_available(text: str) -> bool:
    """Whether this Python can have what a program imports."""
    return not any(re.search(rf"\b{name}\b", text) for name in MISSING)


NEW_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if UVLOOP:
    import uvloop

    NEW_LOOPS["uvloop"] = uvloop.new_event_loop
    # libuv's first loop opens a pipe for the whole process, which no test that counts should meet.
    uvloop.new_event_loop().close()
