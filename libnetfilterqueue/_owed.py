# SPDX-License-Identifier: GPL-2.0-or-later
"""A call that a loop has to make."""

from collections.abc import Callable


class Owed:
    """A call that a loop owes, and that is made when the loop drops it: when that is closed."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()

    def __del__(self) -> None:
        self()
