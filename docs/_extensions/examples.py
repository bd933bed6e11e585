# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a page of each example, from the file itself, and has other pages' links lead there."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
PAGES = ROOT / "docs" / "examples"  # made anew each time, and not for git
LANGUAGES = {".py": "python", ".service": "ini", ".yaml": "yaml", ".nft": "nft", "": "docker"}
LINK = re.compile(r"\]\((?:\.\./)+examples(?:/([\w./-]+))?\)")

INDEX = """\
Examples
========

.. meta::
   :description: Whole programs, in every loop and for several tasks.

These programs are in ``examples/`` of the repository. Each begins with the rules and the packages
that it needs. Ctrl-C and SIGTERM end all of them. The :doc:`cookbook <../cookbook/index>` has
shorter ones, a task each.

{entries}
.. toctree::
   :hidden:

{names}
"""

PAGE = """\
{title}
{line}

.. meta::
   :description: {summary}

{summary}

:download:`Download <../../examples/{path}>`

.. literalinclude:: ../../examples/{path}
   :language: {language}
"""


def paths() -> Iterator[Path]:
    """The files; that of a folder's name is its first one."""
    files = (path for path in EXAMPLES.rglob("*") if path.suffix in LANGUAGES and path.is_file())
    yield from sorted(files, key=lambda path: path.relative_to(EXAMPLES).as_posix().lower())


def name(path: Path) -> str:
    """What its page is called."""
    return "-".join(path.relative_to(EXAMPLES).parts)


def summary(path: Path) -> str:
    """The first sentence of what the file says of itself."""
    text = path.read_text()
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    else:
        lines = (line[1:].strip() for line in text.splitlines() if line.startswith("#"))
        text = " ".join(lines)
    sentence = re.match(r".*?\.(?=\s|$)", " ".join(text.split()))
    assert sentence, path
    return sentence[0].replace("`", "``")


def page(path: Path) -> str:
    """The page of a file."""
    title = path.relative_to(EXAMPLES).as_posix()
    language = LANGUAGES[path.suffix]
    line = "=" * len(title)
    return PAGE.format(title=title, line=line, path=title, language=language, summary=summary(path))


def make_pages(app: Sphinx, config: Config) -> None:
    """Writes all pages, before Sphinx looks for them."""
    files = list(paths())
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir()
    for path in files:
        (PAGES / f"{name(path)}.rst").write_text(page(path))
    entries = "".join(
        f"- :doc:`{path.relative_to(EXAMPLES)} <{name(path)}>`: {summary(path)}\n" for path in files
    )
    names = "\n".join(f"   {name(path)}" for path in files)
    (PAGES / "index.rst").write_text(INDEX.format(entries=entries, names=names))


def link_pages(app: Sphinx, docname: str, content: list[str]) -> None:
    """Has links to the files, which serve readers of the repository, lead to the pages."""

    def target(link: re.Match[str]) -> str:
        return f"](/examples/{(link[1] or 'index').replace('/', '-')}.rst)"

    content[0] = LINK.sub(target, content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", make_pages)
    app.connect("source-read", link_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
