# SPDX-License-Identifier: GPL-2.0-or-later
"""Small plots of results.json, which a telephone can show, for light and for dark pages."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH = 340
LEFT, RIGHT = 132, 56  # of the bars: names, and figures
TOP, ROW, BAR, BOTTOM = 48, 22, 14, 12
ROWS = (
    *("C, one by one", "C, batch verdict", "process", "manual loop"),
    *("asyncio, attached", "asyncio, stream", "asyncio, serve"),
    *("gevent, attached", "gevent, stream", "gevent, serve"),
    *("trio, attached", "trio, stream", "trio, serve"),
    *("NetfilterQueue", "fnfqueue"),
)
# The bars' classes, by the beginning of a row's label; the last one is ours.
KINDS = {"C, ": "c", "NetfilterQueue": "other", "fnfqueue": "other", "": "ours"}

STYLE = """
    svg { --page: #ffffff; --ink: #1f2328; --quiet: #59636e;
          --c: #8a8f98; --ours: #2463a8; --other: #c98a2b }
    @media (prefers-color-scheme: dark) {
      svg { --page: #131416; --ink: #e3e5e8; --quiet: #a2abb5;
            --c: #7d8590; --ours: #4d8fdb; --other: #d29a3a }
    }
    text { fill: var(--ink); font: 12.5px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
    .head { font-size: 14px; font-weight: 600 }
    .small { fill: var(--quiet) }
    .end { text-anchor: end }
    .page { fill: var(--page) }
    .c { fill: var(--c) }
    .ours { fill: var(--ours) }
    .other { fill: var(--other) }
"""


@dataclass(frozen=True)
class Plot:
    """One figure of a table."""

    file: str
    table: str  # its title
    key: str
    heading: str
    unit: str
    scale: float = 1
    digits: int = 1

    def text(self, value: float) -> str:
        """A figure as it stands beside its bar."""
        return f"{value * self.scale:,.{self.digits}f}"


PLOTS = (
    Plot("cost.svg", "64-byte packets, accepted", "cpu", "What a packet costs", "µs of CPU time"),
    Plot(
        "rate.svg",
        "64-byte packets, accepted",
        "rate",
        "Packets per second",
        "thousands, on one processor",
        scale=1e-3,
        digits=0,
    ),
    Plot("latency.svg", "latency on one processor", "p50", "From sending to arrival", "µs, median"),
)


def bars(plot: Plot, medians: dict[str, float]) -> Iterator[str]:
    """A row each: the name, a bar, the figure."""
    longest = max(medians.values())
    for number, (label, median) in enumerate(medians.items()):
        y = TOP + number * ROW
        width = (WIDTH - LEFT - RIGHT) * median / longest
        kind = next(kind for start, kind in KINDS.items() if label.startswith(start))
        base = y + BAR - 3
        yield f'<text class="end" x="{LEFT - 8}" y="{base}">{escape(label)}</text>'
        yield f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        yield f'<text x="{LEFT + width + 6:.1f}" y="{base}">{plot.text(median)}</text>'


def drawing(plot: Plot, medians: dict[str, float]) -> str:
    """The picture, which says in words what it shows."""
    height = TOP + len(medians) * ROW + BOTTOM
    said = ", ".join(f"{label}: {plot.text(median)}" for label, median in medians.items())
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    labels = 'role="img" aria-labelledby="title description"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {labels}>',
        "<!-- SPDX-License-Identifier: GPL-2.0-or-later; made by plots.py -->",
        f'<title id="title">{escape(plot.heading)}, {escape(plot.unit)}</title>',
        f'<desc id="description">{escape(said)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
        f'<text class="head" x="12" y="22">{escape(plot.heading)}</text>',
        f'<text class="small" x="12" y="39">{escape(plot.unit)}</text>',
        *bars(plot, medians),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def draw(directory: Path, data: dict[str, Any]) -> None:
    """Draws all plots of what results.json has, beside it."""
    tables = {table["title"]: table["rows"] for table in data["tables"]}
    for plot in PLOTS:
        rows = {row["label"]: row for row in tables.get(plot.table, ()) if plot.key in row}
        medians = {label: rows[label][plot.key]["median"] for label in ROWS if label in rows}
        if medians:
            (directory / plot.file).write_text(drawing(plot, medians))
