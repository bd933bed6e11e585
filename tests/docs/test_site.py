# SPDX-License-Identifier: GPL-2.0-or-later
"""The built documentation: nothing public is missing, nothing comes from elsewhere.

`./dev docs` runs these on what it has built.
"""

import inspect
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).parent.parent.parent
BUILT = ROOT / "build" / "docs"
PAGES = sorted(BUILT.rglob("*.html"))
FILES = (path for path in (ROOT / "examples").rglob("*") if path.is_file())
EXAMPLES = sorted(path for path in FILES if path.suffix != ".pyc")
MODULES = ["", ".aio", ".green", ".trio", ".testing", ".pytest_plugin"]
MODULES += [".expectations", ".keeping", ".metrics", ".compat.netfilterqueue"]
# What makes a browser fetch something; links that people click are not among it.
FETCHED = {("link", "href"), ("use", "href"), ("form", "action")}


class Resources(HTMLParser):
    """Collects what a page fetches, where its links lead, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        for name, value in attrs:
            if value is None:
                continue
            if name in {"src", "srcset", "data"} or (tag, name) in FETCHED:
                self.fetched.append(value)
            elif name == "href":
                self.links.append(value)
            elif name == "id":
                self.anchors.add(value)


RESOURCES = {page: Resources(page) for page in PAGES}


def public_names(module: ModuleType) -> Iterator[str]:
    """All public functions, classes and constants, and the public members of the classes."""
    for name in getattr(module, "__all__", ["nfqueue", "nfqueue_real"]):
        yield f"{module.__name__}.{name}"
        member = getattr(module, name)
        if inspect.isclass(member) and member.__name__ == name:
            for inner in dir(member):
                if not inner.startswith("_") and is_ours(member, inner):
                    yield f"{module.__name__}.{name}.{inner}"


def is_ours(cls: type, name: str) -> bool:
    """Whether a member is not inherited from a class of Python's."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), cls)
    return owner.__module__.startswith("libnetfilterqueue")


@pytest.mark.parametrize("suffix", MODULES)
def test_complete(suffix: str) -> None:
    """The reference has every public name; the enums' members also by their own names."""
    inventory = InventoryFile.loads((BUILT / "objects.inv").read_bytes(), uri="")
    documented = {
        name for kind, names in inventory.data.items() if kind[:3] == "py:" for name in names
    }
    names = set(public_names(import_module(f"libnetfilterqueue{suffix}")))
    assert names
    assert names <= documented, names - documented


@pytest.mark.parametrize("suffix", MODULES)
def test_since(suffix: str) -> None:
    """Of every public name it is known which version brought it: a file in docs/reference/since."""
    files = (ROOT / "docs" / "reference" / "since").glob("*.txt")
    known = [name for file in files for name in file.read_text().split()]
    assert len(known) == len(set(known))
    module = import_module(f"libnetfilterqueue{suffix}")
    assert set(public_names(module)) <= set(known)


def test_new_in() -> None:
    """Functions and classes say in which version they are new."""
    for page, count in (("functions", 4), ("handle", 1), ("errors", 3), ("aio", 4)):
        marks = re.findall(
            r"New in version \d+\.\d+\.\d+\.", text(BUILT / "reference" / f"{page}.html")
        )
        assert len(marks) >= count, page


def test_linked_names() -> None:
    """What docstrings and signatures name leads to its page, Python's own types to Python's."""
    links = RESOURCES[BUILT / "reference" / "handle.html"].links
    assert "errors.html#libnetfilterqueue.ClosedError" in links
    assert "constants.html#libnetfilterqueue.CopyMode" in links
    assert "https://docs.python.org/3/library/functions.html#int" in links


def test_pages() -> None:
    """Each source has become a page."""
    sources = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.[mr][ds]*")}
    assert len(sources) >= 10
    assert {BUILT / source.with_suffix(".html") for source in sources} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(BUILT)))
def test_nothing_from_elsewhere(page: Path) -> None:
    """Everything that a browser fetches for a page is beside it."""
    fetched = RESOURCES[page].fetched
    assert any("furo" in url for url in fetched)
    for url in fetched:
        parts = urlsplit(url)
        assert not parts.netloc, url
        assert parts.scheme in {"", "data"}, url
        assert parts.scheme or not parts.path or (page.parent / unquote(parts.path)).exists(), url


def test_styles_from_here() -> None:
    """The style sheets fetch nothing from elsewhere."""
    sheets = list(BUILT.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text()
        assert "@import" not in text
        for prefix in ("http:", "https:", "//"):
            assert f"url({prefix}" not in text.replace('"', "").replace("'", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(BUILT)))
def test_links(page: Path) -> None:
    """Links within the documentation lead somewhere."""
    for url in RESOURCES[page].links:
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.exists(), url
        if parts.fragment and target in RESOURCES:
            assert unquote(parts.fragment) in RESOURCES[target].anchors, url


def test_furniture() -> None:
    """Pages have groups in the sidebar, buttons that copy, an icon, and what link previews show."""
    page = (BUILT / "rules.html").read_text()
    assert page.count('class="caption-text"') >= 4
    assert "copybutton.js" in page
    assert '"_static/favicon.svg"' in page
    assert 'property="og:image"' in page
    assert (BUILT / "_static" / "preview.png").exists()
    for path in (ROOT / "docs").rglob("*.md"):
        built = BUILT / path.relative_to(ROOT / "docs").with_suffix(".html")
        assert 'property="og:description"' in built.read_text(), path


def text(page: Path) -> str:
    """What people read on a page."""
    return unescape(re.sub(r"<[^>]+>", "", page.read_text()))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples(path: Path) -> None:
    """An example is a page, from the file itself, and the list of examples leads there."""
    name = f"{'-'.join(path.relative_to(ROOT / 'examples').parts)}.html"
    assert path.read_text().strip() in text(BUILT / "examples" / name)
    assert name in RESOURCES[BUILT / "examples" / "index.html"].links


def test_named_examples() -> None:
    """Pages that name an example lead there."""
    for path in (ROOT / "docs").rglob("*.md"):
        assert not re.search(r"`examples/[\w./-]+`", path.read_text()), path


def test_types() -> None:
    """Signatures and attributes of the extension have the stub's types, not its names for them."""
    text = "".join(page.read_text() for page in (BUILT / "reference").glob("*.html"))
    for name in ("SupportsIndex", "_Float", "ReadableBuffer", "WriteableBuffer"):
        assert name not in text
    handle = (BUILT / "reference" / "handle.html").read_text()
    assert '<span class="pre">timeout</span>' in handle
    assert '<span class="pre">float</span>' in handle
