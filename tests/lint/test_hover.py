# SPDX-License-Identifier: GPL-2.0-or-later
"""What editors show of a name: what they ask, a server or jedi, answers with its docstring.

basedpyright's stands for pyright's and Pylance's too. `./dev lint` runs this.
"""

import asyncio
import html
import inspect
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jedi  # type: ignore[import-untyped]
import pytest
from lsprotocol.types import (
    ClientCapabilities,
    DidOpenTextDocumentParams,
    HoverClientCapabilities,
    HoverParams,
    InitializedParams,
    InitializeParams,
    MarkupContent,
    MarkupKind,
    Position,
    TextDocumentClientCapabilities,
    TextDocumentIdentifier,
    TextDocumentItem,
    WorkspaceFolder,
)
from pygls.lsp.client import LanguageClient

import libnetfilterqueue as nfq
from libnetfilterqueue import aio, testing

TIMEOUT = 100.0  # seconds; it is ten seconds' work, on a busy machine many more

PROGRAM = """\
import libnetfilterqueue as nfq
from libnetfilterqueue import aio
from libnetfilterqueue.testing import FakeKernel


def callback(packet: nfq.NetfilterQueueData) -> None:
    packet.set_verdict(nfq.NF_ACCEPT)
    packet.payload


handle = nfq.open()
queue = handle.create_queue(1, callback)
handle.autoflush = False
queue.default_verdict
queue.set_verdict_batch(nfq.NF_ACCEPT, 9)
nfq.VerdictError
aio.serve
aio.open_queue
aio.PacketStream
FakeKernel.enqueue
"""

DOCUMENTED: dict[str, object] = {
    "NetfilterQueueData": nfq.NetfilterQueueData,
    "set_verdict": nfq.NetfilterQueueData.set_verdict,
    "payload": nfq.NetfilterQueueData.payload,
    "open": nfq.open,
    "create_queue": nfq.NetfilterQueueHandle.create_queue,
    "autoflush": nfq.NetfilterQueueHandle.autoflush,
    "default_verdict": nfq.NetfilterQueueQueueHandle.default_verdict,
    "set_verdict_batch": nfq.NetfilterQueueQueueHandle.set_verdict_batch,
    "VerdictError": nfq.VerdictError,
    "serve": aio.serve,
    "PacketStream": aio.PacketStream,
    "enqueue": testing.FakeKernel.enqueue,
}
DOCSTRINGS = {
    **{name: inspect.getdoc(value) or "" for name, value in DOCUMENTED.items()},
    "open_queue": "A queue as a stream of packets",
}


def position(name: str) -> Position:
    """Where the program has an attribute of that name."""
    before, _, _ = PROGRAM.partition(f".{name}")
    return Position(before.count("\n"), len(before.rpartition("\n")[2]) + 1)


def words(text: str) -> str:
    """A text without what Markdown adds."""
    return " ".join(re.findall(r"\w+", html.unescape(text).replace("\\", "")))


@asynccontextmanager
async def editor(server: str, *arguments: str, directory: Path) -> AsyncIterator[LanguageClient]:
    """A language server that has the program open."""
    client = LanguageClient("tests", "1")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    await client.start_io(server, *arguments, env={**os.environ, "PATH": path})
    await client.initialize_async(
        InitializeParams(
            process_id=os.getpid(),  # when that ends the server ends too
            capabilities=ClientCapabilities(
                text_document=TextDocumentClientCapabilities(
                    hover=HoverClientCapabilities(content_format=[MarkupKind.Markdown])
                )
            ),
            workspace_folders=[WorkspaceFolder(directory.as_uri(), "program")],
            root_uri=directory.as_uri(),
        )
    )
    client.initialized(InitializedParams())
    document = TextDocumentItem((directory / "program.py").as_uri(), "python", 1, PROGRAM)
    client.text_document_did_open(DidOpenTextDocumentParams(document))
    try:
        yield client
    finally:
        await client.shutdown_async(None)
        client.exit(None)
        await client.stop()  # type: ignore[no-untyped-call]


@pytest.mark.timeout(TIMEOUT + 10)
async def test_pyright(tmp_path: Path) -> None:
    """Each name's docstring is in what pyright's server shows of it."""
    document = TextDocumentIdentifier((tmp_path / "program.py").as_uri())
    server = editor("basedpyright-langserver", "--stdio", directory=tmp_path)
    async with asyncio.timeout(TIMEOUT), server as client:
        for name, docstring in DOCSTRINGS.items():
            hover = await client.text_document_hover_async(HoverParams(document, position(name)))
            assert hover is not None, name
            assert isinstance(hover.contents, MarkupContent)
            assert words(docstring) in words(hover.contents.value), name


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_jedi(name: str, tmp_path: Path) -> None:
    """Each name's docstring is what jedi has to show of it, in whichever editor."""
    environment = jedi.create_environment(sys.prefix, safe=False)
    script = jedi.Script(PROGRAM, path=tmp_path / "program.py", environment=environment)
    place = position(name)
    shown = " ".join(found.docstring() for found in script.help(place.line + 1, place.character))
    assert words(DOCSTRINGS[name]) in words(shown)
