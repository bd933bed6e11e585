# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the README's links absolute, and moves them to its end: PyPI shows that page too.

`./dev format` calls it.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "README.md"


def files_address() -> str:
    """Where files of the repository are seen."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return f"{project['urls']['Repository']}/blob/main/"


def with_links(page: str, address: str) -> str:
    """The page, where each link to a file names it, and the addresses stand at the end."""
    page = re.sub(r"(\n\[[\w./#-]+\]: \S+)+\n*\Z", "", page)
    page = re.sub(r"\]\((?!\w+:|#)([^)]+)\)", r"][\1]", page)
    files = sorted(set(re.findall(r"\]\[([^]]+)\]", page)))
    return page.rstrip("\n") + "\n\n" + "".join(f"[{file}]: {address}{file}\n" for file in files)


if __name__ == "__main__":
    PAGE.write_text(with_links(PAGE.read_text(), files_address()))
