# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue watch`."""

import argparse
import contextlib
import errno
import selectors
import socket
import sys
import time
from collections.abc import Iterator

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._capture import CaptureFile
from libnetfilterqueue.cli._display import Display
from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._found_rules import find_rules
from libnetfilterqueue.cli._record import Record
from libnetfilterqueue.cli._signals import awaitable_signals, is_interrupt
from libnetfilterqueue.cli._text import counted
from libnetfilterqueue.cli._watched_file import watch_file

PATIENCE = 1.0  # seconds until a hint; whoever sees packets needs none
RCVBUF = 1 << 21  # bytes; about maxlen's 1024 packets of 1500 bytes have room

# What is asked for, one after the other, until the kernel knows it.
DETAILS = (
    nfq.NFQA_CFG_F_CONNTRACK | nfq.NFQA_CFG_F_SECCTX,
    nfq.NFQA_CFG_F_CONNTRACK,
    nfq.NFQA_CFG_F_SECCTX,
    nfq.QueueFlag(0),
)
UNKNOWN_FLAG = (errno.EOPNOTSUPP, errno.EINVAL)  # since Linux 7.1 the latter


class Watch:
    """Gives each packet of a queue its verdict, and shows those that are wanted."""

    def __init__(self, options: argparse.Namespace, display: Display) -> None:
        self._queue: int = options.queue
        self._verdict = options.verdict
        self._display = display
        self._batch: list[tuple[nfq.NetfilterQueueData, float]] = []
        self._start = time.monotonic()
        self.packets = 0
        self.bytes = 0

    def __call__(self, packet: nfq.NetfilterQueueData) -> None:
        """The queue's callback: no packet waits until others are printed."""
        packet.set_verdict(self._verdict.number)
        # To the microsecond, like the kernel's: the line and the file then say the same.
        self._batch.append((packet, round(time.time(), 6)))

    def run(self, handle: nfq.NetfilterQueueHandle, signals: socket.socket) -> bool:
        """Watches until a signal comes or enough is shown; returns whether it was SIGINT."""
        patience: float | None = PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(signals, selectors.EVENT_READ)
            selector.register(handle, selectors.EVENT_READ)
            while self._display.room:
                ready = [key.fileobj for key, _ in selector.select(patience)]
                if signals in ready:
                    return is_interrupt(signals)
                if not ready:
                    for line in hints(self._queue):
                        print(line, file=sys.stderr, flush=True)
                patience = None
                handle.process(self._display.room)
                self._show()
        return False

    def _show(self) -> None:
        batch, self._batch = self._batch, []
        self.packets += len(batch)
        self.bytes += sum(packet.original_length for packet, _ in batch)
        self._display.show(
            [Record(packet, self._verdict.name, read_at) for packet, read_at in batch]
        )

    def summary(self, handle: nfq.NetfilterQueueHandle) -> str:
        """What there was, for people. To be called before the queue is gone."""
        stats = handle.stats()
        seconds = time.monotonic() - self._start
        lines = [
            f"{counted(self.packets, 'packet')}, {counted(self.bytes, 'byte')} in {seconds:.1f} s",
            f"{counted(self._display.shown, 'packet')} shown",
            *kernel_drops(self._queue),
            counted(stats.overruns, "overrun"),
            f"{counted(stats.truncated, 'packet')} cut short",
        ]
        if stats.verdict_errors:
            lines.append(f"{counted(stats.verdict_errors, 'verdict')} refused by the kernel")
        return "\n".join(lines)


def hints(queue: int) -> Iterator[str]:
    """What is wrong if no packet comes, as far as that can be known."""
    with contextlib.suppress(CommandError):  # only root is told of the rules
        rules = find_rules()
        if not rules.may_name(queue):
            yield f"No rule of {' or '.join(rules.asked)} names queue {queue}. This prints some:"
            yield f"  libnetfilterqueue rules --queue {queue}"


def kernel_drops(number: int) -> list[str]:
    """What the kernel has counted for a queue. It reports that to root only."""
    try:
        (status,) = (status for status in nfq.queue_status() if status.queue == number)
    except OSError:
        return ["packets dropped by the kernel: only root can read this"]
    by_kernel = "dropped by the kernel:"
    return [
        f"{counted(status.queue_dropped, 'packet')} {by_kernel} queue full",
        f"{counted(status.user_dropped, 'packet')} {by_kernel} receive buffer full",
    ]


def bind(handle: nfq.NetfilterQueueHandle, watch: Watch, options: argparse.Namespace) -> None:
    """Binds the queue, with as much of what only --json prints as this kernel was built with."""
    flags = nfq.NFQA_CFG_F_UID_GID
    if options.fail_open:
        flags |= nfq.NFQA_CFG_F_FAIL_OPEN
    for details in DETAILS if options.json else DETAILS[-1:]:
        try:
            handle.create_queue(
                options.queue,
                watch,
                mode=nfq.NFQNL_COPY_PACKET,
                flags=flags | details,
                default_verdict=options.verdict.number,
            )
            return
        except OSError as error:
            if error.errno not in UNKNOWN_FLAG or not details:
                raise


def run(options: argparse.Namespace) -> bool:
    """Runs it; returns whether it was interrupted."""
    with contextlib.ExitStack() as stack:
        capture = None
        if options.write is not None:
            capture = stack.enter_context(CaptureFile(options.write))
        display = Display(options, capture)
        if options.read is not None:
            watch_file(options.read, display, capture)
            return False
        return watch_queue(options, display, capture)


def watch_queue(options: argparse.Namespace, display: Display, capture: CaptureFile | None) -> bool:
    """Watches a queue; returns whether it was interrupted."""
    watch = Watch(options, display)
    with awaitable_signals() as signals, nfq.open() as handle:
        handle.rcvbuf = RCVBUF
        bind(handle, watch, options)
        if capture is not None:
            capture.begin()
        print(f"Queue {options.queue} is bound; Ctrl-C ends.", file=sys.stderr, flush=True)
        try:
            return watch.run(handle, signals)
        finally:
            print(watch.summary(handle), file=sys.stderr, flush=True)
