# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue top`: the queues, live on the whole terminal."""

import argparse
import os
import select

from rich.live import Live

from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._keys import pressed_keys
from libnetfilterqueue.cli._output import Output
from libnetfilterqueue.cli._samples import Sample, lines
from libnetfilterqueue.cli._signals import awaitable_signals, is_interrupt
from libnetfilterqueue.cli._top_table import make_screen

ENDING = frozenset(b"qQ")


def run(options: argparse.Namespace) -> bool:
    """Runs it; returns whether it was interrupted."""
    console = Output()
    if not console.is_terminal:
        raise CommandError("standard output is not a terminal; status --interval prints to others")
    now = Sample.take()  # fails before the terminal is taken
    before = None
    with (
        awaitable_signals() as signals,
        pressed_keys() as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            shown = make_screen(now, lines(before, now), options.maxlen, console.width)
            live.update(shown, refresh=True)
            ready, _, _ = select.select([signals.fileno(), *keys], [], [], options.interval)
            if signals.fileno() in ready:
                return is_interrupt(signals)
            if ready and is_end(os.read(keys[0], 64)):
                return False
            before, now = now, Sample.take()


def is_end(typed: bytes) -> bool:
    """Whether it is to end: a key says so, or the terminal is gone."""
    return not typed or not ENDING.isdisjoint(typed)
