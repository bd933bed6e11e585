# SPDX-License-Identifier: GPL-2.0-or-later
"""From the figures of all rounds to what people read: table, results.json, plot."""

import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import Figures

PAGE, INK, LINE = "#ffffff", "#1f2328", "#59636e"
# The bars' colours, by the beginning of a row's label; the last one is ours.
COLOURS = {"C, ": "#8a8f98", "NetfilterQueue": "#c98a2b", "fnfqueue": "#c98a2b", "": "#2463a8"}
# What colours become on dark pages.
DARK = {
    PAGE: "#131416",
    INK: "#e3e5e8",
    LINE: "#c4cad1",
    "#8a8f98": "#7d8590",
    "#2463a8": "#4d8fdb",
}


@dataclass(frozen=True)
class Metric:
    """One of the figures of a table."""

    key: str
    heading: str
    digits: int = 2
    spread: bool = True  # show the quartiles


@dataclass(frozen=True)
class Summary:
    """Median and quartiles over the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Of one value as of many."""
        low, median, high = statistics.quantiles([*values, *values], n=4, method="inclusive")
        return cls(low, median, high)

    def text(self, digits: int, spread: bool) -> str:
        """As it stands in the table."""
        text = f"{self.median:,.{digits}f}"
        return text + f" ({self.low:,.{digits}f}-{self.high:,.{digits}f})" if spread else text


@dataclass(frozen=True)
class Cell:
    """One of a row's figures, and its ratio to that of the limit in the same round."""

    value: Summary
    ratio: Summary | None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Cell":
        """What as_json() has told."""
        ratio = data.get("ratio")
        value = {name: number for name, number in data.items() if name != "ratio"}
        return cls(Summary(**value), Summary(**ratio) if ratio else None)

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return {**vars(self.value), **({"ratio": vars(self.ratio)} if self.ratio else {})}


@dataclass
class Results:
    """What came out for a table: each row's figures, or why there are none."""

    title: str
    metrics: Sequence[Metric]
    limit: str | None  # the row that the others are compared with
    rows: dict[str, dict[str, Cell]]  # by label and the metric's key
    reasons: dict[str, str]

    @classmethod
    def of(
        cls,
        title: str,
        metrics: Sequence[Metric],
        limit: str | None,
        rounds: dict[str, list[Figures]],
        reasons: dict[str, str],
    ) -> "Results":
        """From each row's figures by round."""
        least = rounds.get(limit or "")

        def cell(figures: list[Figures], key: str) -> Cell:
            values = [each[key] for each in figures]
            ratios = [
                value / other[key] for value, other in zip(values, least or (), strict=bool(least))
            ]
            return Cell(Summary.of(values), Summary.of(ratios) if ratios else None)

        rows = {
            label: {metric.key: cell(figures, metric.key) for metric in metrics}
            for label, figures in rounds.items()
        }
        return cls(title, metrics, limit, rows, reasons)

    @classmethod
    def from_json(cls, data: dict[str, Any], metrics: Sequence[Metric]) -> "Results":
        """What as_json() has told; those of its figures that the metrics name."""
        rows = {}
        reasons = {}
        for row in data["rows"]:
            if "missing" in row:
                reasons[row["label"]] = row["missing"]
            else:
                rows[row["label"]] = {
                    metric.key: Cell.from_json(row[metric.key]) for metric in metrics
                }
        return cls(data["title"], metrics, data["limit"], rows, reasons)

    def lines(self) -> list[str]:
        """The table, aligned."""
        cells = [[self.title, *self._headings()]]
        cells += [[label, *self._cells(row)] for label, row in self.rows.items()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            row[0].ljust(max(widths[0], 36))
            + "".join(
                "  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
            )
            for row in cells
        ]
        lines.insert(1, "-" * len(lines[0]))
        return lines + [f"{label}: {reason}" for label, reason in self.reasons.items()]

    def _headings(self) -> list[str]:
        compared = [f"x {self.limit}".replace(",", "")] if self.limit else []
        return [text for metric in self.metrics for text in (metric.heading, *compared)]

    def _cells(self, row: dict[str, Cell]) -> list[str]:
        cells = []
        for metric in self.metrics:
            cell = row[metric.key]
            cells.append(cell.value.text(metric.digits, metric.spread))
            if self.limit:
                cells.append(cell.ratio.text(2, metric.spread) if cell.ratio else "-")
        return cells

    def as_json(self) -> dict[str, Any]:
        """All figures with their spread."""
        rows: list[dict[str, Any]] = [
            {"label": label, **{key: cell.as_json() for key, cell in row.items()}}
            for label, row in self.rows.items()
        ]
        rows += [{"label": label, "missing": reason} for label, reason in self.reasons.items()]
        return {"title": self.title, "limit": self.limit, "rows": rows}


def write_json(path: Path, facts: dict[str, str], tables: Sequence[Results]) -> None:
    """Writes all results, with the facts about the machine."""
    data = {"facts": facts, "tables": [table.as_json() for table in tables]}
    path.write_text(json.dumps(data, indent=1) + "\n")


def plot(path: Path, table: Results, metric: Metric) -> None:
    """Draws one figure of a table as bars, with the quartiles; for light and for dark pages."""
    import matplotlib as mpl  # noqa: PLC0415 (results are wanted also without it)

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "results"  # the same results give the same file
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rc("text", color=INK)
    mpl.rc("axes", labelcolor=INK, edgecolor=LINE, facecolor="none")
    mpl.rc("xtick", color=LINE, labelcolor=INK)
    mpl.rc("ytick", color=LINE, labelcolor=INK)
    from matplotlib import pyplot as plt  # noqa: PLC0415

    labels = list(table.rows)
    summaries = [row[metric.key].value for row in table.rows.values()]
    colours = [
        next(c for start, c in COLOURS.items() if label.startswith(start)) for label in labels
    ]
    medians = [summary.median for summary in summaries]
    errors = [
        [summary.median - summary.low for summary in summaries],
        [summary.high - summary.median for summary in summaries],
    ]
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.32 * len(labels)), layout="constrained")
    axes.barh(labels, medians, color=colours, xerr=errors, ecolor=LINE, height=0.7)
    axes.invert_yaxis()
    axes.set_title(table.title, loc="left", fontsize=11)
    axes.set_xlabel(f"{metric.heading} (median and quartiles)")
    if table.limit in labels:
        axes.axvline(medians[labels.index(table.limit)], color="#8a8f98", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", facecolor=PAGE, metadata={"Date": None})
    plt.close(figure)
    path.write_text(drawn.getvalue().replace("</style>", f"{dark_style()}</style>", 1))


def dark_style() -> str:
    """The style sheet that gives the drawing other colours on dark pages."""
    rules = [
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important }}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    ]
    return "\n".join(["", "@media (prefers-color-scheme: dark) {", *rules, "}", ""])
