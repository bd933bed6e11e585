# SPDX-License-Identifier: GPL-2.0-or-later
"""ARCHITECTURE.md lists the source files as they are, and no module imports itself by others."""

import ast
import graphlib
import re
from collections.abc import Container, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
PROSE, LIST = PAGE.split("<!-- files -->\n")


def rows() -> dict[str, str]:
    """What the list says of each file, by the file's path."""
    found = {}
    for title, table in re.findall(r"^### `(.*?)/`.*\n\n((?:\|.*\n)+)", LIST + "\n", re.MULTILINE):
        for name, sentence in re.findall(r"^\| `(.*?)` \| (.*) \|$", table, re.MULTILINE):
            assert f"{title}/{name}" not in found
            found[f"{title}/{name}"] = sentence
    return found


def test_files() -> None:
    """Each has a row; `./dev format` writes the list anew."""
    files = [*(ROOT / "ext").rglob("*.[ch]"), *(ROOT / "libnetfilterqueue").rglob("*.py*")]
    sources = {
        str(path.relative_to(ROOT)) for path in files if path.suffix in (".c", ".h", ".py", ".pyi")
    }
    assert rows().keys() == sources
    assert len(sources) >= 60


def test_sentences() -> None:
    """They are those that the files begin with."""
    for name, sentence in rows().items():
        head = (ROOT / name).read_text()[:2000]
        text = " ".join(re.sub(r"^( \*|\"\"\")", "", head, flags=re.MULTILINE).split())
        assert sentence.endswith("."), name
        assert sentence in text, name


def test_named() -> None:
    """The files and directories that the text above the list names are there."""
    names = re.findall(r"`([\w./]+\.(?:c|h|py|md|typed))`", PROSE)
    assert len(names) >= 15
    for name in names:
        places = [ROOT / name, ROOT / "libnetfilterqueue" / name, *(ROOT / "ext").rglob(name)]
        assert any(place.exists() for place in places), name


def imported(path: Path, modules: Container[str]) -> Iterator[str]:
    """What a module imports, for type checkers and in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in modules else str(node.module)


def test_no_circle() -> None:
    """No module of the package imports one that imports it, directly or by others.

    What is imported on demand does not count: by the extension the enums and tuples, when it first
    makes one, and by the package `open_queue`, which stands above the package.
    """
    package = ROOT / "libnetfilterqueue"
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in [*package.rglob("*.py"), *package.rglob("*.pyi")]
    }
    graph = {
        name: modules.keys() & set(imported(path, modules))
        for name, path in modules.items()
        if path.suffix == ".py"
    }
    graph["libnetfilterqueue"].remove("libnetfilterqueue._packets")
    assert len(graph) >= 40
    assert sum(map(len, graph.values())) >= 80
    graphlib.TopologicalSorter(graph).prepare()  # its error names the circle
