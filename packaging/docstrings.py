# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies the extension's docstrings to its stub, where editors look for them.

They are those of the extension that is installed. `./dev format` calls this, and has ruff indent
what it has written.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from libnetfilterqueue import _ext

STUB = Path(__file__).parent.parent / "libnetfilterqueue" / "_ext.pyi"


def documented(scope: ast.Module | ast.ClassDef, owner: object) -> Iterator[tuple[ast.stmt, str]]:
    """What stands first in each body of the stub, with the docstring for there; the last first.

    A property's docstring is that of its getter.
    """
    for node in reversed(scope.body):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or not hasattr(owner, node.name):
            continue
        member = getattr(owner, node.name)
        if isinstance(node, ast.ClassDef):
            yield from documented(node, member)
        is_setter = any(isinstance(item, ast.Attribute) for item in node.decorator_list)
        if not is_setter:
            yield node.body[0], inspect.getdoc(member) or ""
    if isinstance(scope, ast.Module):
        yield scope.body[0], inspect.getdoc(owner) or ""


def quoted(docstring: str) -> str:
    """The docstring as source, its last quotes on a line of their own if it has several."""
    end = "\n" if "\n" in docstring else ""
    return ast.unparse(ast.Module([ast.Expr(ast.Constant(docstring + end))], []))


def with_docstrings(source: str) -> str:
    """The stub with the docstrings of the extension in the places of older ones, or of `...`."""
    lines = source.splitlines()
    for node, docstring in documented(ast.parse(source), _ext):
        first = min(part.lineno for part in (node, *getattr(node, "decorator_list", ()))) - 1
        is_placeholder = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        end = node.end_lineno if is_placeholder else first
        lines[first:end] = [lines[first][: node.col_offset] + quoted(docstring)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    STUB.write_text(with_docstrings(STUB.read_text()))
