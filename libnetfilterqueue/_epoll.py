# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes epoll objects, also in processes that gevent has patched."""

import select
import sys


def new_epoll() -> "select.epoll":
    """An epoll object, also where gevent's monkey-patching has taken the class away."""
    if hasattr(select, "epoll"):
        return select.epoll()
    epoll: select.epoll = sys.modules["gevent.monkey"].get_original("select", "epoll")()
    return epoll
