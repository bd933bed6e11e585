# SPDX-License-Identifier: GPL-2.0-or-later
"""A clock that tests move; conftest.py makes the fixture known."""

import pytest
from available import GEVENT

from libnetfilterqueue import _backlog
from libnetfilterqueue.aio import _packets

MODULES = [_backlog, _packets]
if GEVENT:
    from libnetfilterqueue.green import _packets as _green_packets

    MODULES.append(_green_packets)


class Clock:
    """The clock of streams, which stands still until a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1.0
        for module in MODULES:
            monkeypatch.setattr(module, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
