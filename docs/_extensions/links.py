# SPDX-License-Identifier: GPL-2.0-or-later
"""Links from what docstrings name: this package's objects, and the standard library's types.

Docstrings have names in double backticks, as help() shows them.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import libnetfilterqueue as nfq

PYTHON = "https://docs.python.org/3/library/"
# The pages of Python's types, which have an anchor of the type's name.
TYPES = {
    **dict.fromkeys(("bool", "float", "int"), "functions.html"),
    **dict.fromkeys(("bytearray", "bytes", "dict", "list"), "stdtypes.html"),
    **dict.fromkeys(("memoryview", "str", "tuple"), "stdtypes.html"),
    **dict.fromkeys(("Buffer", "Callable", "Coroutine"), "collections.abc.html"),
    **dict.fromkeys(("Iterable", "Iterator", "Mapping", "Sequence"), "collections.abc.html"),
    "AbstractEventLoop": "asyncio-eventloop.html",
    "PathLike": "os.html",
    "Path": "pathlib.html",
}
ANCHORS = {
    **{name: f"collections.abc.{name}" for name in TYPES if "abc" in TYPES[name]},
    "AbstractEventLoop": "asyncio.AbstractEventLoop",
    "PathLike": "os.PathLike",
    "Path": "pathlib.Path",
}
NAME = re.compile(r"(?<![`\w])``([A-Za-z_][\w.]*)(\(\))?``(?!`)")
ADAPTERS = [f"libnetfilterqueue.{name}" for name in ("aio", "green", "trio", "testing")]


def members(module: ModuleType, prefix: str) -> Iterator[tuple[str, str]]:
    """The names of a module and of its classes' members, with their roles' targets."""
    for name in module.__all__:
        member = getattr(module, name)
        yield name, f"{prefix}.{name}"
        if inspect.isclass(member):
            for inner in (inner for inner in dir(member) if not inner.startswith("_")):
                yield f"{name}.{inner}", f"{prefix}.{name}.{inner}"


MODULES = {
    name: dict(members(import_module(name), name)) for name in ("libnetfilterqueue", *ADAPTERS)
}


def target(name: str, place: str) -> str | None:
    """What a name means in the docstring of an object: a member of its class, module or package."""
    module = next((each for each in ADAPTERS if place.startswith(f"{each}.")), "libnetfilterqueue")
    inside = place.removeprefix(f"{module}.").partition(".")[0]
    for names in (MODULES[module], MODULES["libnetfilterqueue"]):
        for candidate in (f"{inside}.{name}", name):
            if candidate in names:
                return names[candidate]
    for cls in ("NetfilterQueueHandle", "NetfilterQueueQueueHandle", "NetfilterQueueData"):
        if f"{cls}.{name}" in MODULES["libnetfilterqueue"] and hasattr(getattr(nfq, cls), name):
            return f"libnetfilterqueue.{cls}.{name}"
    return None


def link_names(  # noqa: PLR0917 (the event's)
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Makes references of the names in a docstring."""

    def reference(match: re.Match[str]) -> str:
        found = target(match[1], name)
        if found is None or found == name:
            return match[0]
        return f":py:obj:`{match[1]}{match[2] or ''} <{found}>`"

    parameters = set(re.findall(r":param (\w+):", "\n".join(lines)))
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = NAME.sub(
                lambda match: match[0] if match[1] in parameters else reference(match), line
            )


def link_types(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: nodes.TextElement
) -> nodes.reference | None:
    """Leads from a type of the standard library to Python's own page."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py" or name not in TYPES:
        return None
    uri = f"{PYTHON}{TYPES[name]}#{ANCHORS.get(name, name)}"
    return nodes.reference("", "", contents, internal=False, refuri=uri)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx; the lists of parameters are made before."""
    app.connect("autodoc-process-docstring", link_names, priority=900)
    app.connect("missing-reference", link_types)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
