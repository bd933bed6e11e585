# SPDX-License-Identifier: GPL-2.0-or-later
"""A captured packet, and what a function has made of it on the fake kernel."""

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

    def outcome(self) -> "Outcome | None":
        """What has become of it; None as long as it waits for a verdict."""
        passed = self.sent.passed
        if passed is None:
            return None
        return Outcome(self._captured, self.sent, passed=passed, error=self.error)


class Outcome:
    """What has become of a packet that has passed or was dropped."""

    def __init__(
        self, captured: CapturedPacket, sent: KernelPacket, *, passed: bool, error: str | None
    ) -> None:
        payload, mark, verdicts, why = sent.payload, sent.mark, sent.verdicts, sent.why
        before = captured.get_payload()
        self.passed = passed
        self.error = error
        """What the function has raised."""
        self.is_rewritten = payload != before
        self.is_defaulted = not verdicts or verdicts[-1].default is not None
        """Whether nobody has decided on it, and it got the queue's default verdict."""
        unheard = "accept" if passed else "drop"  # the kernel's own
        notes = []
        if self.is_rewritten:
            notes.append(f"rewritten, {len(before)} bytes before")
        if error is not None:
            notes.append(f"raised {error}")
        elif self.is_defaulted:
            notes.append(f"by default: {why}")
        elif why and not passed:  # the program has decided, and then the kernel
            notes.append(why)
        self.record = Record(
            captured.changed(payload, mark),
            verdict_name(verdicts[-1].verdict) if verdicts else unheard,
            0.0,
            notes=", ".join(notes),
            more={
                "passed": passed,
                "rewritten": self.is_rewritten,
                "default": why if self.is_defaulted else None,
                "error": error,
            },
        )
        """What is printed of it, and written."""
