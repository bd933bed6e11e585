# SPDX-License-Identifier: GPL-2.0-or-later
"""What users call has an example in its docstring, which is run, and a list of its parameters.

The examples are dialogues with Python's shell, or with that of `python -m asyncio`: they may await.
docs/reference/index.rst says which names they use.
"""

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import os
import re
import select
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import trio
from available import GEVENT
from scapy.layers.inet import IP, UDP
from scapy.utils import wrpcap
from test_reference import DOCS, OBJECTS

import libnetfilterqueue as nfq
import libnetfilterqueue.trio
from libnetfilterqueue import aio, expectations, keeping, metrics, pytest_plugin, testing
from libnetfilterqueue.compat.netfilterqueue import NetfilterQueue, Packet
from libnetfilterqueue.testing import FakeKernel

if GEVENT:
    import gevent.queue

    from libnetfilterqueue import green

Names = dict[str, Any]

PACKET = IP(src="127.0.0.1", dst="127.0.0.1") / UDP(sport=1, dport=9) / b"some data"
STREAM = 7  # the number of the stream's queue
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Called by a registry and by the kernels; and the names of NetfilterQueue, whose page has examples.
OTHERS = re.compile(r"\.Collector\.(collect|describe)|\.SentVerdict\.read|\.compat\.")
# Users call these classes; they get objects of all others from something else.
MADE = re.compile(r"\.(open_queue|PacketStream|FakeKernel|RealKernel|Rule|Collector)")
MODULES: Names = {
    **{module.__name__: module for module in (asyncio, os, prometheus_client, select)},
    "socket": socket,
    "trio": trio,
    "nfq": nfq,
    "aio": aio,
    "expectations": expectations,
    "keeping": keeping,
    "metrics": metrics,
    "callback": nfq.Packet.drop,
    **{name: getattr(testing, name) for name in testing.__all__},
    **({"gevent": gevent, "green": green} if GEVENT else {}),
}

CALLED = {
    name: member
    for name, member in {
        **OBJECTS,
        "libnetfilterqueue.keeping.open": keeping.open,
        "libnetfilterqueue.pytest_plugin.nfqueue": pytest_plugin.nfqueue,
        "libnetfilterqueue.pytest_plugin.nfqueue_real": pytest_plugin.nfqueue_real,
    }.items()
    if callable(member) and not OTHERS.search(name)
}


def parameters(name: str) -> list[str]:
    """Those that a user may name, in their order."""
    member = CALLED[name]
    if (inspect.isclass(member) and not MADE.search(name)) or ".pytest_plugin." in name:
        return []
    return [name for name in inspect.signature(member).parameters if name != "self"]


def documentation(name: str) -> str:
    """The docstring; that of a class that users call, with its constructor's."""
    member = CALLED[name]
    init = inspect.getdoc(member.__init__) or "" if MADE.search(name) else ""
    return "\n\n".join((inspect.getdoc(member) or "", init))


@pytest.mark.parametrize("name", CALLED)
def test_parameters(name: str) -> None:
    """The docstring lists the parameters, as editors show them."""
    lists = re.findall(r"(?<=^Args:\n)(?: .*\n?)+", documentation(name), re.MULTILINE)
    listed = [name for part in lists for name in re.findall(r"^ {4}(\w+): ", part, re.MULTILINE)]
    assert listed == parameters(name)


async def run(text: str, names: Names) -> None:
    """Does what the dialogues in a text say; fails if anything else is printed or raised."""
    examples = doctest.DocTestParser().get_examples(text)
    assert examples
    for example in examples:
        code = compile(example.source, "example", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                result = eval(code, names)
                if inspect.iscoroutine(result):
                    await result
        except Exception as error:
            if example.exc_msg is None:
                raise
            check(example.exc_msg, traceback.format_exception_only(error)[-1])
        else:
            assert example.exc_msg is None
            check(example.want, printed.getvalue())


def check(expected: str, printed: str) -> None:
    assert doctest.OutputChecker().check_output(expected, printed, FLAGS), printed


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """What examples name: a packet that was kept, and its queue, in which another one waits."""
    monkeypatch.chdir(tmp_path)
    wrpcap("dns.pcap", [PACKET])
    with FakeKernel() as kernel, kernel.patched(), kernel.open() as handle:
        kept: list[nfq.Packet] = []
        queue = handle.create_queue(1, kept.append, flags=nfq.NFQA_CFG_F_UID_GID)
        sent = kernel.enqueue(
            bytes(PACKET),
            mark=5,
            hook=nfq.NF_INET_LOCAL_OUT,
            indev=socket.if_nametoindex("lo"),
            outdev=socket.if_nametoindex("lo"),
            uid=1000,
            gid=1000,
            hw_addr=b"\2\0\0\0\0\1",
            timestamp=1_700_000_000.5,
        )
        handle.process()
        kernel.enqueue(b"waits")
        here = {"kernel": kernel, "handle": handle, "queue": queue, "sent": sent}
        yield {**MODULES, **here, "packet": kept.pop()}


def fill(kernel: FakeKernel) -> None:
    """Sends packets to the stream."""
    kernel.enqueue_all([b"1", b"2", b"3"], STREAM)


async def in_loopless(text: str, names: Names) -> None:
    with nfq.open_queue(STREAM) as stream:
        fill(names["kernel"])
        await run(text, names | {"stream": stream})


async def in_aio(text: str, names: Names) -> None:
    with names["kernel"].open() as fed, aio.attach(fed) as attachment:
        async with aio.open_queue(STREAM) as stream:
            fill(names["kernel"])
            (await stream.get()).accept()  # now the others are there too
            await run(text, names | {"stream": stream, "attachment": attachment})


async def in_trio(text: str, names: Names) -> None:
    exported = {
        name: getattr(libnetfilterqueue.trio, name) for name in libnetfilterqueue.trio.__all__
    }
    with names["kernel"].open() as fed:
        async with trio.open_nursery() as nursery:
            attachment = libnetfilterqueue.trio.attach(fed, nursery)
            async with libnetfilterqueue.trio.open_queue(STREAM) as stream:
                fill(names["kernel"])
                here = {"stream": stream, "attachment": attachment}
                await run(text, names | exported | here)
            attachment.detach()


def in_green(text: str, names: Names) -> None:
    fed, stream = names["kernel"].open(), green.open_queue(STREAM)
    with fed, green.attach(fed) as attachment, stream:
        fill(names["kernel"])
        stream.get().accept()  # now the others are there too
        coroutine = run(text, names | {"stream": stream, "attachment": attachment})
        with pytest.raises(StopIteration):  # it awaits nothing
            coroutine.send(None)


@pytest.mark.parametrize("name", CALLED)
def test_example(name: str, names: Names) -> None:
    """The docstring has an example, which does what it says."""
    text = documentation(name)
    if ".green." in name:
        in_green(text, names)
    elif ".trio." in name:
        trio.run(in_trio, text, names)
    else:
        asyncio.run((in_aio if ".aio." in name else in_loopless)(text, names))


def test_compat(names: Names) -> None:
    """The page of NetfilterQueue's names has an example for each of them."""
    text = (DOCS / "reference" / "compat.rst").read_text()
    asyncio.run(run(text, names | {"NetfilterQueue": NetfilterQueue, "Packet": Packet}))
    for cls in (NetfilterQueue, Packet):
        for name in (name for name in vars(cls) if not name.startswith("_")):
            assert re.search(rf"(>>>|\.\.\.) .*\.{name}\b", text), name
