# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks that begin at once, for Python 3.11, which has no eager tasks."""

import asyncio
import contextvars
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, cast

Routine = Coroutine[Any, Any, None]


class Rest:
    """The rest of a coroutine whose first step was made before: the coroutine of its task."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._coroutine: Routine | None = None
        self._awaited: Any = None  # what the first step has ended with
        self._known: asyncio.Future[None] | None = None  # done once it is known what is to be done
        self._ended = False

    def go_on(self, coroutine: Routine, awaited: Any) -> None:
        """Says what the task has to do."""
        self._coroutine, self._awaited = coroutine, awaited
        self._wake()

    def end(self) -> None:
        """Says that it has nothing to do."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._known is not None and not self._known.done():
            self._known.set_result(None)

    def send(self, value: None) -> Any:
        """A step of the task."""
        awaited, self._awaited = self._awaited, None
        if self._coroutine is not None:
            return self._coroutine.send(value) if awaited is None else awaited
        if self._ended:
            raise StopIteration
        self._known = self._loop.create_future()
        return next(self._known.__await__())

    def throw(self, error: BaseException) -> Any:
        """A step of the task, which is cancelled, or awaits what can't be awaited."""
        awaited, self._awaited = self._awaited, None
        if self._coroutine is None:
            raise error
        if asyncio.isfuture(awaited) and awaited.cancel(*error.args):
            return awaited  # as in any task that is cancelled
        return self._coroutine.throw(error)


cast(Any, Coroutine).register(Rest)  # to tasks it is one


class SpareTask:
    """A task without anything to do, until ``begin()`` gives it a coroutine.

    That makes the coroutine's first step, as an eager task does. If the coroutine ends with it and
    leaves nothing in the task, the task is to spare again: a new one costs more than the step.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._original = context
        self._context = context.copy()
        self._rest = Rest(loop)
        self.is_clean = True  # nothing is left in the task
        self.task = asyncio.Task(cast(Routine, self._rest), loop=loop, context=self._context)
        self._name = self.task.get_name()

    def begin(self, coroutine: Routine) -> bool:
        """Makes the coroutine's first step. Whether it goes on after that, in the task.

        No task may be running. KeyboardInterrupt and SystemExit leave this too.
        """
        task = self.task
        self.is_clean = False
        references, weak = sys.getrefcount(task), weakref.getweakrefcount(task)
        try:
            asyncio._enter_task(self._loop, task)
            awaited = self._context.run(next, coroutine.__await__(), self)
        except asyncio.CancelledError as error:
            task.cancel(*error.args)
            return False
        finally:
            asyncio._leave_task(self._loop, task)
        if awaited is not self:
            self._rest.go_on(coroutine, awaited)
            return True
        self.is_clean = (
            references == sys.getrefcount(task)
            and weak == weakref.getweakrefcount(task)
            and not task.cancelling()
            and task._callbacks is None
            and task.get_name() == self._name
            and self._context == self._original
        )
        return False

    def end(self) -> None:
        """Ends the task, which has nothing to do."""
        self._rest.end()


class SpareTasks:
    """A spare task, and those that are about to end. ``ended`` is called when one of them has."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        ended: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._context = context
        self._ended = ended
        self._spare: SpareTask | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def begin(self, coroutine: Routine) -> asyncio.Task[None] | None:
        """Makes the coroutine's first step, and returns its task if it goes on."""
        spare, self._spare = self._spare, None
        if spare is None or spare.task.cancelling():
            self._end(spare)
            spare = SpareTask(self._loop, self._context)
        goes_on = False
        try:
            goes_on = spare.begin(coroutine)
        finally:
            if spare.is_clean:
                self._spare = spare
            elif not goes_on:
                self._end(spare)
        return spare.task if goes_on else None

    def _end(self, spare: SpareTask | None) -> None:
        if spare is not None:
            spare.end()
            self._ending.add(spare.task)
            spare.task.add_done_callback(self._note_ended)

    def _note_ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        self._ended()

    def end(self) -> bool:
        """Ends the spare task. Whether any is about to end."""
        spare, self._spare = self._spare, None
        self._end(spare)
        return bool(self._ending)
