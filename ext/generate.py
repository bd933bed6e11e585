# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the C headers of what stands once, in Python: docstrings and the names of counters.

The build calls it: `generate.py docstrings STUB HEADER` makes a macro of each docstring of the
extension's stub, with the signature that inspect reads in front of those of functions.
`generate.py counters TUPLES HEADER` makes the list of the fields of HandleStats.
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def is_property(node: ast.stmt) -> bool:
    """Whether it is a getter."""
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(decorator, ast.Name) and decorator.id == "property"
        for decorator in node.decorator_list
    )


def is_documented(node: ast.stmt) -> bool:
    """Whether it has a docstring of its own: a setter has the getter's, `__buffer__` CPython's."""
    return (
        isinstance(node, ast.FunctionDef)
        and node.name != "__buffer__"
        and not any(isinstance(decorator, ast.Attribute) for decorator in node.decorator_list)
    )


def signature(function: ast.FunctionDef, owner: ast.ClassDef | None) -> str:
    """The arguments as inspect reads them from an extension; `$self` is bound already."""
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    if arguments.vararg:
        arguments.vararg.annotation = None
    first = ast.arg("self" if owner else "module")
    if owner:
        (arguments.posonlyargs or arguments.args).pop(0)
    arguments.posonlyargs.insert(0, first)
    return f"{function.name}(${ast.unparse(arguments)})\n--\n\n"


def documentation(node: Documented, owner: ast.ClassDef | None = None) -> str:
    """The docstring as the extension has it; a public member without one is an error."""
    text = ast.get_docstring(node)
    if text is None:
        sys.exit(f"{getattr(node, 'name', 'the module')} has no docstring")
    if isinstance(node, ast.FunctionDef) and not is_property(node):
        return signature(node, owner) + text
    return text


def documented(module: ast.Module) -> Iterator[tuple[str, str]]:
    """The name of each macro, and its text."""
    yield "module", documentation(module)
    for node in module.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, documentation(node)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, documentation(node)
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and is_documented(member):
                    yield f"{node.name}_{member.name}", documentation(member, node)


def docstrings(stub: str) -> str:
    """The header of docstrings."""
    macros = [
        f"#define DOC_{name} {json.dumps(text)}" for name, text in documented(ast.parse(stub))
    ]
    return "\n".join(macros)


def counters(tuples: str) -> str:
    """The header of counters: a macro that applies another one to each of their names."""
    (stats,) = (
        node
        for node in ast.parse(tuples).body
        if isinstance(node, ast.ClassDef) and node.name == "HandleStats"
    )
    names = [
        node.target.id
        for node in stats.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    return "#define LNFQ_COUNTERS(DO) " + " ".join(f"DO({name})" for name in names)


def main(kind: str, source: str, header: str) -> None:
    """Writes one header."""
    make = {"docstrings": docstrings, "counters": counters}[kind]
    text = make(Path(source).read_text(encoding="utf-8"))
    Path(header).write_text(f"/* Made by generate.py. */\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
