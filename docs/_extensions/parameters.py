# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes lists of the parameters that docstrings have below `Args:`, where editors look for them."""

import re
from typing import Any

from sphinx.application import Sphinx

ITEM = re.compile(r"^ {4}(\w+): ")


def make_list(  # noqa: PLR0917 (the event's)
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Writes them as Sphinx has them."""
    inside = False
    for number, line in enumerate(lines):
        if line == "Args:":
            inside = True
            lines[number] = ""
        elif inside and line.startswith("    "):
            lines[number] = ITEM.sub(r":param \1: ", line)
        else:
            inside = inside and not line


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", make_list)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
