# SPDX-License-Identifier: GPL-2.0-or-later
"""A captured packet, and what a function has made of it on the fake kernel."""

from collections.abc import Iterator

from libnetfilterqueue.cli._captured_packet import CapturedPacket
from libnetfilterqueue.cli._record import Record
from libnetfilterqueue.cli._verdicts import verdict_name
from libnetfilterqueue.testing import KernelPacket


class Replayed:
    """The packet, as its file has it and as the kernel has it."""

    def __init__(self, captured: CapturedPacket, sent: KernelPacket) -> None:
        self.error: str | None = None
        """What the function has raised."""
        self.sent = sent
        self._captured = captured

    @property
    def is_settled(self) -> bool:
        """Whether it passed or was dropped."""
        return self.sent.passed is not None

    @property
    def is_rewritten(self) -> bool:
        """Whether its content has been replaced."""
        return self.sent.payload != self._captured.get_payload()

    @property
    def is_defaulted(self) -> bool:
        """Whether nobody has decided on it, and it got the queue's default verdict."""
        verdicts = self.sent.verdicts
        return not verdicts or verdicts[-1].default is not None

    def record(self) -> Record:
        """What is printed of it, and written."""
        sent = self.sent
        number = sent.verdict
        unheard = "accept" if sent.passed else "drop"  # the kernel's own
        return Record(
            self._captured.changed(sent.payload, sent.mark),
            unheard if number is None else verdict_name(number),
            0.0,
            {},
            notes=", ".join(self._notes()),
            more={
                "passed": sent.passed,
                "rewritten": self.is_rewritten,
                "default": sent.why if self.is_defaulted else None,
                "error": self.error,
            },
        )

    def _notes(self) -> Iterator[str]:
        """What a line says besides its verdict."""
        if self.is_rewritten:
            yield f"rewritten, {len(self._captured.get_payload())} bytes before"
        if self.error is not None:
            yield f"raised {self.error}"
        elif self.is_defaulted:
            yield f"by default: {self.sent.why}"
        elif not self.sent.passed and self.sent.why:  # the program has decided, and then the kernel
            yield self.sent.why
