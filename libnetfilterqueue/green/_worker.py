# SPDX-License-Identifier: GPL-2.0-or-later
"""A greenlet that handles one packet after the other."""

import sys
import weakref
from collections.abc import Callable

import gevent


class Worker(gevent.Greenlet):  # type: ignore[type-arg]  # which is none at run time
    """A greenlet that handles packets, and can tell whether a handler has left something in it.

    That is whatever refers to the greenlet: a gevent.Timeout that will raise in it, the values that
    a gevent.local keeps for it, a kill that is under way; and whoever waits for its end.
    """

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__(run)
        self._linked = 0  # functions to be called at its end
        self.has_switched = False  # since its last handler began
        self._settled = self._traces()[0]
        self._before = self._traces()

    def switch_out(self) -> None:
        """Called by gevent when the greenlet is left for others."""
        self.has_switched = True

    def rawlink(self, callback: Callable[..., object]) -> None:
        """Called by gevent for whoever is to be told of the greenlet's end."""
        self._linked += 1
        super().rawlink(callback)

    def settle(self) -> None:
        """To be called by itself, once, before the first handler."""
        gevent.sleep(0)
        self._settled = self._traces()[0]

    def begin(self) -> None:
        """To be called before each handler. What was counted after the last one still counts."""
        if self.has_switched:
            self.has_switched = False
            self._before = self._traces()

    def is_clean(self) -> bool:
        """Whether the handler has left nothing. To be called after it, may let others have a turn.

        What has resumed a greenlet refers to it. So after a switch its references are counted
        where something has always just resumed it.
        """
        if not self.has_switched:
            return self._traces() == self._before
        try:
            gevent.sleep(0)
        except gevent.GreenletExit:
            raise
        except BaseException:  # noqa: BLE001 (whatever the handler has left)
            return False
        return self._traces() == (self._settled, *self._before[1:])

    def _traces(self) -> tuple[int, int, int, int]:
        """These change when something new refers to the greenlet."""
        weak = weakref.getweakrefcount(self)
        return sys.getrefcount(self), weak, len(vars(self)), self._linked
