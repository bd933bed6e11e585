# SPDX-License-Identifier: GPL-2.0-or-later
"""From the figures of all rounds to what people read: table, results.json."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab import Figures


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


def as_json(facts: dict[str, str], tables: Sequence[Results]) -> dict[str, Any]:
    """All results, with the facts about the machine."""
    return {"facts": facts, "tables": [table.as_json() for table in tables]}
