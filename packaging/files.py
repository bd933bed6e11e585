# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists the source files in ARCHITECTURE.md, each with the first sentence of its own.

`./dev format` calls it.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
MARK = "<!-- files -->\n"
LAYERS = {
    "wire": "plain C, which fuzzers run without Python",
    "support": "what knows Python, and no handle",
    "engine": "what the handle's lock protects",
    "types": "the Python types and the module",
}


def opening(path: Path) -> str:
    """What the file says of itself: a comment in C, a docstring in Python."""
    text = path.read_text()
    if path.suffix in (".c", ".h"):
        comment = re.search(r"^/\*\n(.*?) \*/$", text, re.MULTILINE | re.DOTALL)
        return re.sub(r"^ \*", "", comment[1], flags=re.MULTILINE) if comment else ""
    return ast.get_docstring(ast.parse(text)) or ""


def first_sentence(text: str) -> str:
    """On one line."""
    return re.split(r"(?<=\.)\s", " ".join(text.split()) + " ")[0]


def table(title: str, paths: Iterable[Path]) -> Iterator[str]:
    """A heading, and a row for each file."""
    yield from (f"### {title}", "", "| | |", "| --- | --- |")
    for path in sorted(paths):
        yield f"| `{path.name}` | {first_sentence(opening(path))} |"
    yield ""


def tables() -> Iterator[str]:
    """One for each directory of the extension, from its lowest layer on, and of the package."""
    for layer, what in LAYERS.items():
        yield from table(f"`ext/{layer}/`, {what}", (ROOT / "ext" / layer).glob("*.[ch]"))
    package = ROOT / "libnetfilterqueue"
    for directory in sorted({path.parent for path in package.rglob("*.py")}):
        title = f"`{directory.relative_to(ROOT)}/`"
        yield from table(title, [*directory.glob("*.py"), *directory.glob("*.pyi")])


def with_files(page: str) -> str:
    """The page with the list as it is now."""
    before, mark, _ = page.partition(MARK)
    return before + mark + "\n" + "\n".join(tables()).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(with_files(PAGE.read_text()))
