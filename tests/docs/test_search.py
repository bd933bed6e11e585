# SPDX-License-Identifier: GPL-2.0-or-later
"""The site's search finds the right page for what people ask in their own words.

It is the search itself: the site's JavaScript and its index, without a browser.
"""

import json
from pathlib import Path

import pytest
from py_mini_racer import MiniRacer

BUILT = Path(__file__).parent.parent.parent / "build" / "docs"
SCRIPTS = ("documentation_options.js", "language_data.js", "searchtools.js")
# What the scripts want of a browser before anything is shown.
BROWSER = """
var window = globalThis;
var document = {
    documentElement: {dataset: {content_root: "./"}},
    getElementById: () => null,
    readyState: "loading",
    addEventListener: () => {},
};
var SPHINX_HIGHLIGHT_ENABLED = false;
var _ready = () => {};
var _removeChildren = () => {};
var _ = (text) => text;
"""
# As `Search.query` does it; the last result is shown first.
ASK = """
Search.setIndex = (index) => { Search._index = index };
const find = (query) => {
    const [text, terms, excluded, marked, objects] = Search._parseQuery(query);
    return JSON.stringify(
        Search._performSearch(text, terms, excluded, marked, objects)
            .reverse().map((result) => result[0]));
};
"""
FIRST = 3  # results

QUERIES = {
}


class Search:
    """The site's search."""

    def __init__(self) -> None:
        self._engine = MiniRacer()
        self._engine.eval(BROWSER)
        for script in SCRIPTS:
            self._engine.eval((BUILT / "_static" / script).read_text())
        self._engine.eval(ASK)
        self._engine.eval((BUILT / "searchindex.js").read_text())

    def __call__(self, query: str) -> list[str]:
        """The pages that are found, the best first."""
        found = json.loads(self._engine.eval(f"find({json.dumps(query)})"))
        return list(map(str, found))


@pytest.fixture(scope="module")
def search() -> Search:
    return Search()


def test_queries() -> None:
    """There are enough of them, for most of the pages."""
    assert len(QUERIES) >= 50
    pages = {str(path.relative_to(BUILT).with_suffix("")) for path in BUILT.rglob("*.html")}
    assert set(QUERIES.values()) <= pages


def test_nothing(search: Search) -> None:
    """What no page has is not found."""
    assert search("gobbledygook") == []


@pytest.mark.parametrize(("query", "page"), QUERIES.items(), ids=QUERIES)
def test_search(search: Search, query: str, page: str) -> None:
    """The page is among the first three results."""
    assert page in search(query)[:FIRST]
