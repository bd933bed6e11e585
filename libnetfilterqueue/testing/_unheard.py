# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds exceptions that nobody heard of: they went to a log, or to standard error, and no further.

A packet whose callback or handler has raised is dropped, as one that was to be dropped is. What
becomes of an exception otherwise stays as it is.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

from libnetfilterqueue.testing._failures import living

PACKAGE = str(Path(__file__).parent.parent)


def place_of(traceback: TracebackType | None) -> str:
    """Where an exception was raised: the innermost line that is not this package's own."""
    place = ""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            place = f" at {Path(file).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


class Unheard:
    """What was told to nobody but a log while it is watched. It keeps no exception alive."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._loops: list[object] = []
        self._stack = contextlib.ExitStack()
        self._watching = False
        self._watching_hubs = False

    def look(self) -> None:
        """To be called in threads of the program: what runs there is watched too."""
        events: Any = sys.modules.get("asyncio.events")
        loop = events and events._get_running_loop()
        if loop is not None and loop not in self._loops:
            self._loops.append(loop)
        if self._watching and not self._watching_hubs and "gevent.hub" in sys.modules:
            self._watching_hubs = True
            self._stack.enter_context(self._patched_hubs())

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Notes what is told for the length of the block."""
        logger = logging.getLogger("asyncio")
        hook = self._unraisable(sys.unraisablehook)
        with self._stack, patch.object(sys, "unraisablehook", hook):
            logger.addFilter(self._note_record)
            self._stack.callback(logger.removeFilter, self._note_record)
            self._watching = True
            self.look()
            yield
        self._watching = self._watching_hubs = False

    def _note(self, what: str, exception: BaseException) -> None:
        self._told.append(f"{what}: {exception!r}{place_of(exception.__traceback__)}")

    def _note_record(self, record: logging.LogRecord) -> bool:
        """What asyncio's loops, and uvloop's, tell where no exception handler is set."""
        exception = record.exc_info and record.exc_info[1]
        if exception:
            self._note(record.getMessage().partition("\n")[0], exception)
        return True

    def _unraisable(self, before: Callable[..., object]) -> Callable[..., object]:
        """sys.unraisablehook: the second exception of a dispatch, and later ones."""

        def hook(unraisable: "sys.UnraisableHookArgs") -> None:
            # The destructors of others raise at any time, and have nothing to do with the test.
            named = getattr(unraisable.object, "__name__", "__del__")
            if named != "__del__" and unraisable.exc_value is not None:
                self._note(f"Exception in {named}()", unraisable.exc_value)
            before(unraisable)

        return hook

    def _patched_hubs(self) -> Any:
        """A hub prints what a greenlet, or a callback of an attached handle, has raised."""
        from gevent.hub import Hub  # noqa: PLC0415 (not every program has it)

        unheard, before = self, Hub.handle_error

        def handle_error(hub: Any, context: Any, kind: Any, value: Any, traceback: Any) -> object:
            if isinstance(value, BaseException) and not isinstance(value, hub.NOT_ERROR):
                unheard._note("Exception in a greenlet", value)
            return before(hub, context, kind, value, traceback)

        return patch.object(Hub, "handle_error", handle_error)

    def found(self) -> list[str]:
        """All of it. Tasks that nobody has asked for their exceptions count as heard then."""
        asyncio: Any = sys.modules.get("asyncio")
        for task in living(asyncio.Task) if self._loops else []:
            if task.get_loop() in self._loops and task.done() and task._log_traceback:
                what = f"Task {task.get_name()!r} ({task.get_coro().__qualname__})"
                self._note(what, task.exception())
        return list(self._told)
