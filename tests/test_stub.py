# SPDX-License-Identifier: GPL-2.0-or-later
"""The extension's stub has its docstrings; that it has its names and signatures, stubtest says."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext

STUB = ast.parse(Path(nfq.__file__).with_name("_ext.pyi").read_text())


def definitions(scope: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """The public classes and functions, and the methods and getters."""
    for node in scope.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node
        is_setter = isinstance(node, ast.FunctionDef) and any(
            isinstance(decorator, ast.Attribute) for decorator in node.decorator_list
        )
        if isinstance(node, ast.FunctionDef) and not is_setter:
            yield node


def test_docstrings() -> None:
    """They are the same; `./dev format` copies those that aren't."""
    stub = {"": ast.get_docstring(STUB)}
    extension = {"": inspect.getdoc(_ext)}
    for node in definitions(STUB):
        value = getattr(_ext, node.name)
        stub[node.name] = ast.get_docstring(node)
        extension[node.name] = inspect.getdoc(value)
        for member in definitions(node) if isinstance(node, ast.ClassDef) else ():
            name = f"{node.name}.{member.name}"
            stub[name] = ast.get_docstring(member)
            extension[name] = inspect.getdoc(getattr(value, member.name))
    assert stub == extension
    assert all(extension.values())
    assert len(extension) > 80
