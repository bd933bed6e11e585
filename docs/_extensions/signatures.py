# SPDX-License-Identifier: GPL-2.0-or-later
"""What autodoc can't see by itself: types that only the extension's stub knows, and other names.

The docstrings are the extension's own, which the build takes from the stub.
"""

import ast
import enum
import re
from pathlib import Path
from typing import Any

from sphinx.addnodes import desc_signature
from sphinx.application import Sphinx
from sphinx.domains.python import PyAttribute, PyMethod

import libnetfilterqueue as nfq

PACKAGE = Path(nfq.__file__).parent
# What a type is called where people read it; the reference's first page says what is meant.
NAMES = {
    "_Float | SupportsIndex": "float",
    "FileDescriptorLike": "int",
    "ReadableBuffer": "Buffer",
    "StrOrBytesPath": "str | bytes | PathLike",
    "SupportsIndex": "int",
    "WriteableBuffer": "Buffer",
}

# The descriptor of testing.KernelPacket's attributes, and what they are.
LIVE = re.compile(r"^[~\w.]*\bLive\[(.*)\]$")


class Signature(ast.NodeTransformer):
    """A function of the stub as autodoc writes signatures."""

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        """Leaves out self."""
        for arguments in (node.posonlyargs, node.args):
            if arguments and arguments[0].arg == "self":
                del arguments[0]
        return node


def readable(signature: str) -> str:
    """A signature with types that people know."""
    for name, meant in NAMES.items():
        signature = signature.replace(name, meant)
    return signature


def written(node: ast.AST | None) -> str:
    """Part of the stub as people read it."""
    return "" if node is None else readable(ast.unparse(node))


def members(prefix: str, body: list[ast.stmt]) -> dict[str, tuple[str, str]]:
    """For each function its arguments and what it returns, for each attribute "" and its type."""
    found: dict[str, tuple[str, str]] = {}
    for node in body:
        match node:
            case ast.ClassDef(name=name, body=inner):
                found |= members(f"{prefix}.{name}", inner)
            case ast.FunctionDef(name=name, decorator_list=[]):
                arguments = written(Signature().visit(node.args))
                found[f"{prefix}.{name}"] = f"({arguments})", written(node.returns)
            case ast.FunctionDef(name=name, decorator_list=[ast.Name(id="property")]):
                found[f"{prefix}.{name}"] = "", written(node.returns)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                found[f"{prefix}.{name}"] = "", written(annotation)
    return found


STUB = members("libnetfilterqueue", ast.parse((PACKAGE / "_ext.pyi").read_text()).body)


def process_signature(  # noqa: PLR0917 (the event's)
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: Any,
    arguments: str | None,
    returned: str | None,
) -> tuple[str, str] | None:
    """Gives autodoc the signature of a function of the extension's, and classes none to be called.

    Only streams and the kernels of tests are made by calling their class.
    """
    if arguments is None:
        return None
    if what == "class" and not name.endswith((".PacketStream", ".FakeKernel", ".RealKernel")):
        return "", ""
    return STUB.get(name) or (readable(arguments), readable(returned or ""))


class Attribute(PyAttribute):
    """An attribute, with its type if the stub knows it, and with its other name in the module."""

    def handle_signature(self, sig: str, signode: desc_signature) -> tuple[str, str]:
        """Adds them to what autodoc says."""
        _, type_ = STUB.get(f"{self.options.get('module')}.{sig}", ("", ""))
        type_ = type_ or LIVE.sub(r"\1", self.options.get("type", ""))
        if type_:
            self.options["type"] = type_
        constant = sig.rpartition(".")[2]
        if isinstance(getattr(nfq, constant, None), enum.Enum):
            self.options["canonical"] = f"libnetfilterqueue.{constant}"
        return super().handle_signature(sig, signode)


class Method(PyMethod):
    """A method; autodoc asks nobody about the signatures of overloads."""

    def handle_signature(self, sig: str, signode: desc_signature) -> tuple[str, str]:
        """Names types as people know them."""
        return super().handle_signature(readable(sig), signode)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", process_signature)
    app.add_directive_to_domain("py", "attribute", Attribute, override=True)
    app.add_directive_to_domain("py", "method", Method, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
