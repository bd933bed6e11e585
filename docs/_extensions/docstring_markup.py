# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes reST of docstrings, which are plain text for help() and editors.

Names become links or code, and what a docstring says of the kernel stands by itself at its end.
"""

import builtins
import enum
import errno
import inspect
import re
from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

import libnetfilterqueue as nfq
from libnetfilterqueue import aio, green, testing

TOKEN = re.compile(
    r"""
      `(?P<span>[^`]+)`
    | (?P<page>\b[a-z]\w*\(\d\))                      # of the manual
    | (?P<call>\b[\w.]+\((?:[^()]|\([^()]*\))*\))
    | (?P<code>b?"[^"]*" | \d+\*\*\d+(\s?-\s?1)? | --[a-z][\w-]*)
    | (?P<word>[\w./]*\w\*?)
    | (?P<escaped>[\\*|])
    """,
    re.VERBOSE,
)
CODE = re.compile(r"\w*_[\w*/.]*|/[\w/.]+|[a-z]\w*([./]\w+)+", re.ASCII)
EXCEPTIONS = {
    name
    for name, value in vars(builtins).items()
    if inspect.isclass(value) and issubclass(value, BaseException)
}
WORDS = {"None", "True", "False"} | EXCEPTIONS | {name for name in dir(errno) if name.isupper()}
KERNEL = re.compile(r"\s*\bKernel:\s(.*?)\.?\s*$", re.DOTALL)
# Behind these a word is the parameter of that name; elsewhere it is English.
PARAMETER = re.compile(r"(^|\n\n|[.,;:]\s+|\b(and|or|outside|with|without)\s+)$", re.IGNORECASE)
PAGE = re.compile(r"docs/(\w+)\.md")


def public(owner: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """The public members of modules and classes, by the names that docstrings have for them."""
    is_module = inspect.ismodule(owner)
    get = getattr if is_module else inspect.getattr_static  # modules may import when asked
    for name in getattr(owner, "__all__", None) or vars(owner):
        member = get(owner, name)
        if name.startswith("_") or (is_module and isinstance(member, enum.Enum)):
            continue  # the enum has it
        target = f"{prefix}.{name}"
        yield name, target
        yield ".".join(target.split(".")[1:]), target
        if is_module:
            yield target, target
        if is_module and inspect.isclass(member) and member.__name__ == name:  # no short name
            yield from public(member, target)


def all_targets(*modules: ModuleType) -> dict[str, list[str]]:
    """What each name may mean."""
    targets: dict[str, list[str]] = {}
    for module in modules:
        for name, target in public(module, module.__name__):
            targets.setdefault(name, []).append(target)
    return targets


TARGETS = all_targets(nfq, aio, green, testing)
MODULES = [f"{module.__name__}." for module in (aio, green, testing)]


def find_target(name: str, place: str) -> str | None:
    """What a name means in a docstring: of several things that which is nearest."""

    def nearness(target: str) -> int:
        owner = target.rpartition(".")[0]
        return len(owner) if f"{place}.".startswith(f"{owner}.") else 0

    others = tuple(module for module in MODULES if not f"{place}.".startswith(module))
    candidates = TARGETS.get(name, [])
    if "." not in name:
        candidates = [each for each in candidates if not each.startswith(others)]
    return max(candidates, key=nearness, default=None)


def parameters_of(obj: Any) -> Collection[str]:
    """The names of a function's or a constructor's parameters."""
    try:
        return inspect.signature(obj).parameters
    except (TypeError, ValueError):
        return ()


def mark_up(text: str, place: str, parameters: Collection[str]) -> str:
    """The text of a docstring as reST."""

    def code(text: str) -> str:
        name = text.removesuffix("()")
        target = None if name in parameters else find_target(name, place)
        return f":py:obj:`{text} <{target}>`" if target not in (None, place) else f"``{text}``"

    def word(text: str, before: str) -> str:
        if page := PAGE.fullmatch(text):
            return f":doc:`/{page[1]}`"
        is_parameter = text in parameters and PARAMETER.search(before)
        is_name = text in TARGETS and text != text.lower()
        is_code = is_parameter or is_name or text in WORDS or CODE.fullmatch(text)
        return code(text) if is_code else text

    def replace(match: re.Match[str]) -> str:
        text = match[0]
        replacements = {
            "span": lambda: code(text[1:-1]),
            "page": lambda: f":manpage:`{text}`",
            "call": lambda: code(text),
            "code": lambda: f"``{text}``",
            "word": lambda: word(text, match.string[: match.start()]),
            "escaped": lambda: f"\\{text}",
        }
        return replacements[str(match.lastgroup)]()

    return TOKEN.sub(replace, text)


def process_docstring(  # noqa: PLR0917 (the event's)
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Called by autodoc for each docstring."""
    text = "\n".join(lines)
    parameters = parameters_of(obj)
    kernel = KERNEL.search(text)
    if kernel:
        text = f"{text[: kernel.start()]}\n\n"
    marked = mark_up(text, name, parameters).split("\n")
    if kernel:
        marked += [f"*Kernel:* {mark_up(' '.join(kernel[1].split()), name, ())}.", ""]
    lines[:] = marked


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
