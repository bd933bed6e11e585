# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/kernel.md names all that there is; neither it nor others name tests that aren't there."""

import enum
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import libnetfilterqueue as nfq

TESTS = Path(__file__).parent
PAGES = [
    TESTS.parent / name
    for name in ("docs/kernel.md", "docs/lost.md", "docs/privileges.md", "SECURITY.md")
]
PAGE = PAGES[0].read_text()
SPANS = re.findall(r"`([^`]+)`", PAGE)
TEST = re.compile(r"`((?:vm/)?test_\w+\.py)::(test_\w+)`")


def is_named(name: str) -> bool:
    """Whether code on the page is that name, or a call of it."""
    return any(re.fullmatch(rf"{re.escape(name)}(\(.*\))?", span) for span in SPANS)


@pytest.mark.parametrize(
    "name", [name for name in dir(nfq.NetfilterQueueData) if not name.startswith(("_", "get_"))]
)
def test_packet(name: str) -> None:
    """Each attribute and method of a packet is on the page; the getters by their attributes."""
    assert is_named(f"packet.{name}")


@pytest.mark.parametrize(
    ("function", "optional"),
    [
        (nfq.NetfilterQueueData.set_verdict, {"mark"}),
        (nfq.NetfilterQueueHandle.create_queue, set()),
    ],
)
def test_keywords(function: Callable[..., Any], optional: set[str]) -> None:
    """Each keyword of the calls is on the page, and no other."""
    parameters = inspect.signature(function).parameters.values()
    keywords = {item.name for item in parameters if item.kind is item.KEYWORD_ONLY} | optional
    assert set(re.findall(rf"`{function.__name__}\((\w+)=…\)`", PAGE)) == keywords


@pytest.mark.parametrize("cls", [nfq.QueueFlag, nfq.Verdict, nfq.CopyMode, nfq.Hook, nfq.SkbInfo])
def test_constants(cls: type[enum.Enum]) -> None:
    """Each constant is on the page."""
    assert set(cls.__members__) <= set(SPANS)


@pytest.mark.parametrize("table", re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE))
def test_rows(table: str) -> None:
    """Each row of a table has all its cells, and a test in the last one."""
    head, _, *rows = table.splitlines()
    for row in rows:
        assert row.count(" | ") == head.count(" | ")
        assert TEST.search(row.rsplit(" | ", 1)[1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests(page: Path) -> None:
    """Each test that a page names exists."""
    tests = sorted(set(TEST.findall(page.read_text())))
    assert len(tests) >= 10
    for file, name in tests:
        assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE), (file, name)
