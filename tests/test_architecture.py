# SPDX-License-Identifier: GPL-2.0-or-later
"""ARCHITECTURE.md names every source file, and no other, with that file's own first sentence."""

import re
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
