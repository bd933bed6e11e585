# SPDX-License-Identifier: GPL-2.0-or-later
"""Says of each object since which version the package has it, from docs/reference/since.

A file there has the names that its version brought, one a line.
"""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FILES = sorted((Path(__file__).parent.parent / "reference" / "since").glob("*.txt"))
SINCE = {name: path.stem for path in FILES for name in path.read_text().split()}


def mark(  # noqa: PLR0917 (the event's)
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Adds the version, unless the object's class is as old."""
    version = SINCE.get(name)
    if version is not None and version != SINCE.get(name.rpartition(".")[0]):
        lines += ["", f"*New in version {version}.*", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", mark, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
