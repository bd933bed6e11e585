# SPDX-License-Identifier: GPL-2.0-or-later
"""A clock that tests move; conftest.py makes the fixture known."""

import pytest

from libnetfilterqueue import _backlog


class Clock:
    """The clock of streams, which stands still until a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1.0
        monkeypatch.setattr(_backlog, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
