# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test must not leave behind, unless it says by name that it is meant to."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from libnetfilterqueue._arguments import check_type
from libnetfilterqueue.testing._attributes import check_names

# The names by which a test allows it, and what it is.
KINDS = {
    "allow_undecided": "packets that nobody gave a verdict until the end, or that of their queue",
    "allow_open": "handles that are open at the end",
    "allow_refused": "verdicts that the kernel refused",
    "allow_unbound": "packets for a number that nobody had bound",
    "allow_unheard": "exceptions that nobody heard of",
}
SHOWN = 5  # of a kind


class Complaint(NamedTuple):
    """One thing that was left behind."""

    allowed_by: str
    text: str

    @property
    def title(self) -> str:
        """What begins its line."""
        return self.allowed_by.removeprefix("allow_")


def check_allowed(what: str, given: Mapping[str, Any]) -> set[str]:
    """The kinds that are allowed. Raises TypeError for another name, and for no bool."""
    check_names(f"{what}: nothing that can be allowed", given, KINDS)
    for name, value in given.items():
        check_type(isinstance(value, bool), f"{what}: {name} must be a bool", value)
    return {name for name, value in given.items() if value}


def describe(complaints: Iterable[Complaint]) -> str:
    """What a user reads; empty if there is no complaint."""
    by_kind: dict[str, list[Complaint]] = {kind: [] for kind in KINDS}
    for complaint in complaints:
        by_kind[complaint.allowed_by].append(complaint)
    lines: list[str] = []
    for found in by_kind.values():
        lines += [f"  {complaint.title}: {complaint.text}" for complaint in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"  {found[0].title}: and {len(found) - SHOWN} more")
    if not lines:
        return ""
    names = ", ".join(f"{kind}=True" for kind, found in by_kind.items() if found)
    return "\n".join(
        [
            "nfqueue: this is left of the test:",
            *lines,
            f"If that is meant to be: @pytest.mark.nfqueue({names})",
        ]
    )
