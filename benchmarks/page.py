# SPDX-License-Identifier: GPL-2.0-or-later
"""The first table of docs/performance.md, from results.json and other-machine.json."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
TITLE = "64-byte packets, accepted"
OTHER = Path(__file__).parent / "other-machine.json"
HEAD = """\
| consumer | µs per packet | packets per second | × C batch verdict | on the other machine |
| --- | --- | --- | --- | --- |
"""  # noqa: RUF001 (a multiplication sign)
TABLE = re.compile(rf"(?<={re.escape(HEAD)})(\|.*\n)+")

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
    "bare extension, process": "bare extension, its own loop",
    "bare extension, manual loop": "bare extension, `recv_into` and one message each",
    "bare extension, asyncio": "bare extension, asyncio",
    "bare extension, uvloop": "bare extension, uvloop",
    "nfq-rs": "nfq-rs, in Rust",
    "go-nfqueue": "go-nfqueue, in Go",
}


def measured(data: dict[str, Any]) -> dict[str, Any]:
    """The rows of the table that have figures, by label."""
    (table,) = (table for table in data["tables"] if table["title"] == TITLE)
    return {row["label"]: row for row in table["rows"] if "cpu" in row}


def ratio(row: dict[str, Any] | None) -> str:
    """To the limit; nothing where the row was not measured."""
    return f"{row['cpu']['ratio']['median']:.2f}" if row else ""


def lines(data: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """The rows that were measured; a package with its version."""
    elsewhere = measured(other)
    for label, row in measured(data).items():
        name = NAMES.get(label) or f"{label} {data['facts'].get(label, '')}".rstrip()
        rate = f"{round(row['rate']['median'], -3):,.0f}"
        cells = (name, f"{row['cpu']['median']:.2f}", rate, ratio(row), ratio(elsewhere.get(label)))
        yield f"| {' | '.join(cells)} |\n"


def filled(page: str, data: dict[str, Any], other: dict[str, Any]) -> str:
    """The page with the figures of both machines."""
    return TABLE.sub("".join(lines(data, other)), page, 1)


def fill(data: dict[str, Any]) -> None:
    """Brings the page's table up to date."""
    PAGE.write_text(filled(PAGE.read_text(), data, json.loads(OTHER.read_text())))
