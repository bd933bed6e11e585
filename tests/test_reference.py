# SPDX-License-Identifier: GPL-2.0-or-later
"""Docstrings, the pictures of docs/diagrams, and the program of docs/index.md."""

import inspect
import json
import re
import runpy
import signal
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from available import GEVENT

import libnetfilterqueue as nfq
import libnetfilterqueue.trio
from libnetfilterqueue import aio, expectations, metrics, pytest_plugin, testing
from libnetfilterqueue.compat import netfilterqueue
from libnetfilterqueue.testing import FakeKernel

DOCS = Path(__file__).parent.parent / "docs"
DIAGRAMS = sorted((DOCS / "diagrams").glob("*.svg"))
BENCHMARKS = DOCS.parent / "benchmarks"
PLOTS = sorted(BENCHMARKS.glob("*.svg"))
DRAWN = {
    "cost": ("64-byte packets, accepted", "cpu", 1, 1),
    "rate": ("64-byte packets, accepted", "rate", 1000, 0),
    "latency": ("latency on one processor", "p50", 1, 1),
}
SVG = "{http://www.w3.org/2000/svg}"
EXTENSION = (
    nfq.NetfilterQueueHandle,
    nfq.NetfilterQueueQueueHandle,
    nfq.NetfilterQueueData,
)


def modules() -> Iterator[ModuleType]:
    """Those with public names."""
    yield from (
        nfq,
        aio,
        expectations,
        libnetfilterqueue.trio,
        metrics,
        netfilterqueue,
        testing,
    )
    if GEVENT:
        from libnetfilterqueue import green  # noqa: PLC0415 (not all Pythons have gevent)

        yield green


def is_ours(member: Any) -> bool:
    """Whether it is a function or property of the package's, not one that its classes inherit."""
    function = member.fget if isinstance(member, property) else member
    return getattr(function, "__module__", "").startswith("libnetfilterqueue")


def objects() -> Iterator[tuple[str, Any]]:
    """All public modules, functions, classes, and the classes' functions and properties."""
    for module in modules():
        yield module.__name__, module
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) or callable(member):
                yield f"{module.__name__}.{name}", member
            if inspect.isclass(member):
                for inner, value in inspect.getmembers_static(member):
                    if not inner.startswith("_") and (member in EXTENSION or is_ours(value)):
                        yield f"{module.__name__}.{name}.{inner}", value


OBJECTS = dict(objects())


@pytest.mark.parametrize("name", OBJECTS)
def test_docstring(name: str) -> None:
    """Everything public says what it is, in sentences."""
    doc = OBJECTS[name].__doc__
    assert doc
    paragraphs = inspect.cleandoc(doc).split("\n\n")
    prose = [paragraph for paragraph in paragraphs if not paragraph.startswith(">>>")]
    assert prose[-1].endswith((".", ")"))
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", doc)


def test_fixture() -> None:
    """The pytest fixture says what it is."""
    assert inspect.getdoc(pytest_plugin.nfqueue)


@pytest.mark.parametrize("cls", EXTENSION, ids=lambda cls: cls.__name__)
def test_signatures(cls: type) -> None:
    """Editors and help() have the signature of each method of the extension's types."""
    methods = [
        value
        for name, value in vars(cls).items()
        if inspect.ismethoddescriptor(value) and name != "__del__"  # Python's own
    ]
    assert methods
    for method in methods:
        assert next(iter(inspect.signature(method).parameters)) == "self"


@pytest.mark.parametrize("path", DIAGRAMS, ids=lambda path: path.stem)
def test_diagram(path: Path) -> None:
    """A diagram is described, looks like the others, is fit for dark pages, fetches nothing."""
    root = ET.fromstring(path.read_text())
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    styles = {each.read_text().split("<style>")[1].split("</defs>")[0] for each in DIAGRAMS}
    assert len(styles) == 1
    assert "prefers-color-scheme: dark" in styles.pop()
    assert not re.search(r"href|url\((?!#)|@import", path.read_text())


def test_diagrams() -> None:
    """All diagrams are there."""
    names = {"packet-flow", "packet-life", "buffers", "loops"}
    assert names <= {path.stem for path in DIAGRAMS}


@pytest.mark.parametrize("path", PLOTS, ids=lambda path: path.stem)
def test_plot(path: Path) -> None:
    """A plot has the recorded figures, in letters that a telephone can show, on dark pages too."""
    root = ET.fromstring(path.read_text())
    assert int(root.attrib["width"]) <= 340
    assert "prefers-color-scheme: dark" in path.read_text()
    texts = [element.text or "" for element in root.iter(f"{SVG}text")][2:]
    title, key, unit, digits = DRAWN[path.stem]
    medians = {row["label"]: row[key]["median"] / unit for row in table(title)}
    assert len(texts) > 20
    assert [f"{medians[label]:.{digits}f}" for label in texts[::2]] == texts[1::2]


def table(title: str) -> list[dict[str, Any]]:
    """The rows of a table of the recorded figures."""
    tables = json.loads((BENCHMARKS / "results.json").read_text())["tables"]
    (rows,) = (table["rows"] for table in tables if table["title"] == title)
    return list(rows)


def test_figures() -> None:
    """The page's first table is that of the recorded figures, and of others after the next run."""
    data, other = (
        json.loads((BENCHMARKS / name).read_text())
        for name in ("results.json", "other-machine.json")
    )
    filled = runpy.run_path(str(BENCHMARKS / "page.py"))["filled"]
    page = (DOCS / "performance.md").read_text()
    assert data["facts"]["processor"] != other["facts"]["processor"]
    assert filled(page, data, other) == page
    figures = {"cpu": {"median": 20, "ratio": {"median": 8}}, "rate": {"median": 50123.4}}
    data["tables"][0]["rows"] = [{"label": "trio, serve", **figures}]
    other["tables"] = [{"title": "64-byte packets, accepted", "rows": []}]
    row = "| trio, `trio.serve` | 20.00 | 50,000 | 8.00 |  |\n"
    assert f"| --- |\n{row}\nThe bare" in filled(page, data, other)


def test_first_program(nfqueue: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page's program decides as it says."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # it runs in a thread
    page = (DOCS / "index.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    thread = threading.Thread(target=exec, args=(program, names))
    thread.start()
    nfqueue.listening(1).wait()
    bad, good = nfqueue.enqueue(b"what is forbidden"), nfqueue.enqueue(b"all else")
    assert bad.wait().passed is False
    assert good.wait().passed is True
    names["packets"].close()
    thread.join(10)
    assert not thread.is_alive()
