# SPDX-License-Identifier: GPL-2.0-or-later
"""The first table of docs/performance.md, from results.json."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
TITLE = "64-byte packets, accepted"
TABLE = re.compile(r"(?<=\| packets per second \|\n\| --- \| --- \| --- \| --- \|\n)(\|.*\n)+")

# What readers see in the place of a row's label.
NAMES = {
    "C, one by one": "C, one `recv` and one verdict message per packet",
    "C, batched": "C, `recvmmsg` of 64, `sendmsg` of 64 verdicts",
    "C, batch verdict": "C, `recvmmsg` of 64, one batch verdict (the limit)",
    "process": "`process`, accept",
    "process, payload read": "`process`, payload read as bytes",
    "process, every tenth marked": "`process`, every tenth packet marked",
    "process, one packet kept": "`process`, a packet kept for good (no batch verdicts)",
    "process, payload rewritten": "`process`, payload rewritten",
    "manual loop": "`recv_into` and `handle_packet`, one message each",
    "stream": "`for` over `nfq.open_queue`",
    "asyncio, attached": "asyncio, `aio.attach`",
    "asyncio, stream": "asyncio, `async for` over `aio.open_queue`",
    "asyncio, get_batch": "asyncio, `get_batch` of `aio.open_queue`",
    "asyncio, serve": "asyncio, `aio.serve`",
    "asyncio, serve, suspended": "asyncio, `aio.serve`, handlers that wait",
    "uvloop, attached": "uvloop, `aio.attach`",
    "uvloop, stream": "uvloop, `async for`",
    "uvloop, get_batch": "uvloop, `get_batch`",
    "uvloop, serve": "uvloop, `aio.serve`",
    "uvloop, serve, suspended": "uvloop, `aio.serve`, handlers that wait",
    "gevent, attached": "gevent, `green.attach`",
    "gevent, stream": "gevent, `for` over `green.open_queue`",
    "gevent, get_batch": "gevent, `get_batch` of `green.open_queue`",
    "gevent, serve": "gevent, `green.serve`",
    "trio, attached": "trio, `trio.attach`",
    "trio, stream": "trio, `async for` over `trio.open_queue`",
    "trio, get_batch": "trio, `get_batch` of `trio.open_queue`",
    "trio, serve": "trio, `trio.serve`",
    "nfq-rs": "nfq-rs, in Rust",
    "go-nfqueue": "go-nfqueue, in Go",
}


def lines(rows: dict[str, Any], facts: dict[str, str]) -> Iterator[str]:
    """The rows that were measured; a package with its version."""
    for label, row in rows.items():
        name = NAMES.get(label) or f"{label} {facts.get(label, '')}".rstrip()
        cost, rate = row["cpu"], round(row["rate"]["median"], -3)
        yield f"| {name} | {cost['median']:.2f} | {cost['ratio']['median']:.2f} | {rate:,.0f} |\n"


def filled(page: str, data: dict[str, Any]) -> str:
    """The page with the figures of results.json."""
    (table,) = (table for table in data["tables"] if table["title"] == TITLE)
    rows = {row["label"]: row for row in table["rows"] if "cpu" in row}
    return TABLE.sub("".join(lines(rows, data["facts"])), page, 1)


def fill(data: dict[str, Any]) -> None:
    """Brings the page's table up to date."""
    PAGE.write_text(filled(PAGE.read_text(), data))
