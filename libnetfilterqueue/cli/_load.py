# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds a function of the user's by its name, MODULE:CALLABLE."""

import importlib
import operator
import sys
from typing import Any, NamedTuple

from libnetfilterqueue.cli._errors import CommandError


class FunctionName(NamedTuple):
    """A function, as the command line names it."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


def parse_function(text: str) -> FunctionName:
    """Reads MODULE:CALLABLE. Raises ValueError."""
    module, _, attribute = text.partition(":")
    for name in (module, attribute):
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{text!r} is not MODULE:CALLABLE, as in package.filters:decide")
    return FunctionName(module, attribute)


def load(name: FunctionName) -> Any:
    """The function. Modules are looked for in the working directory too, as by `python -m`.

    Raises CommandError if there is none, or if its module can't be imported.
    """
    sys.path.insert(0, "")
    try:
        function = operator.attrgetter(name.attribute)(importlib.import_module(name.module))
    except Exception as error:
        raise CommandError(f"{name}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise CommandError(f"{name}: it can't be called")
    return function
