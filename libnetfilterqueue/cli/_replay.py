# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue replay`: a callback or a handler over a capture, on the fake kernel."""

import argparse
import collections
import contextlib
import sys
import time

from libnetfilterqueue.cli._capture import STDOUT, CaptureFile
from libnetfilterqueue.cli._capture_input import CaptureInput
from libnetfilterqueue.cli._display import Print, printer, terminal_for
from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._load import load
from libnetfilterqueue.cli._progress import progress
from libnetfilterqueue.cli._replayed import Outcome
from libnetfilterqueue.cli._replaying import replay
from libnetfilterqueue.cli._text import counted


class Report:
    """Prints what became of packets, counts it, and writes those that passed."""

    def __init__(self, show: Print, capture: CaptureFile | None) -> None:
        self._show = show
        self._capture = capture
        self._start = time.monotonic()
        self.packets = 0
        self.verdicts: collections.Counter[str] = collections.Counter()
        self.rewritten = self.defaulted = self.raised = 0

    def add(self, outcomes: list[Outcome]) -> None:
        """A batch, in the order of the file."""
        records = [each.record for each in outcomes]
        self.packets += len(outcomes)
        self.verdicts.update(record.verdict for record in records)
        self.rewritten += sum(each.is_rewritten for each in outcomes)
        self.defaulted += sum(each.is_defaulted for each in outcomes)
        self.raised += sum(each.error is not None for each in outcomes)
        if self._capture is not None:
            self._capture.write(each.record for each in outcomes if each.passed)
        self._show(records)

    def summary(self, others: int) -> str:
        """What there was, for people."""
        seconds = time.monotonic() - self._start
        verdicts = [f"{number} {name}" for name, number in self.verdicts.most_common()]
        return "\n".join(
            [
                f"{counted(self.packets, 'packet')} in {seconds:.1f} s",
                *([", ".join(verdicts)] if verdicts else []),
                f"{self.rewritten} rewritten, {self.defaulted} by default",
                *([f"{counted(others, 'frame')} without an IP packet"] if others else []),
            ]
        )


def run(options: argparse.Namespace) -> bool:
    """Runs it; returns False: Ctrl-C raises."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(CaptureInput("", options.file))
        capture = None
        if options.write is not None:
            capture = stack.enter_context(CaptureFile(options.write))
        if options.write == STDOUT:  # what the function itself prints is no part of the capture
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        function = load(options.function)
        if capture is not None:
            capture.begin()
        terminal = terminal_for(options)
        report = Report(printer(options, terminal), capture)
        try:
            with progress(file, terminal) as packets:
                replay(function, packets, options.default.number, report.add)
        finally:
            if report.packets:
                print(report.summary(file.others), file=sys.stderr)
    if report.raised:
        times = counted(report.raised, "packet")
        raise CommandError(f"{options.function} has raised an exception for {times}")
    return False
