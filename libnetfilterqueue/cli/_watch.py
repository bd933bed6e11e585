# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue watch`."""

import argparse
import contextlib
import errno
import selectors
import socket
import sys
import time

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._capture import STDOUT, CaptureFile
from libnetfilterqueue.cli._filters import combine
from libnetfilterqueue.cli._output import Output
from libnetfilterqueue.cli._record import Record
from libnetfilterqueue.cli._signals import awaitable_signals, is_interrupt

BATCH = 64  # packets that are read before the first of them is printed
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

    def __init__(self, options: argparse.Namespace, capture: CaptureFile | None) -> None:
        self._options = options
        self._capture = capture
        self._matches = combine(options.filter)
        self._output = Output()
        self._batch: list[tuple[nfq.NetfilterQueueData, float]] = []
        self._start = time.monotonic()
        self.packets = 0
        self.bytes = 0
        self.shown = 0

    def __call__(self, packet: nfq.NetfilterQueueData) -> None:
        """The queue's callback: no packet waits until others are printed."""
        packet.set_verdict(self._options.verdict.number)
        # To the microsecond, like the kernel's: the line and the file then say the same.
        self._batch.append((packet, round(time.time(), 6)))

    def run(self, handle: nfq.NetfilterQueueHandle, signals: socket.socket) -> bool:
        """Watches until a signal comes or enough is shown; returns whether it was SIGINT."""
        with selectors.DefaultSelector() as selector:
            selector.register(signals, selectors.EVENT_READ)
            selector.register(handle, selectors.EVENT_READ)
            while not self._done:
                ready = [key.fileobj for key, _ in selector.select()]
                if signals in ready:
                    return is_interrupt(signals)
                handle.process(self._room)
                self._show()
        return False

    @property
    def _done(self) -> bool:
        return bool(self.shown == self._options.count)

    @property
    def _room(self) -> int:
        """How many packets may be read: none that would have to be shown beyond --count."""
        count = self._options.count
        return BATCH if count is None else min(BATCH, count - self.shown)

    def _show(self) -> None:
        batch, self._batch = self._batch, []
        self.packets += len(batch)
        for packet, read_at in batch:
            self.bytes += packet.original_length
            record = Record.of(packet, self._options.verdict.name, read_at)
            if self._matches(record.fields):
                self.shown += 1
                if self._capture is not None:
                    self._capture.write(record)
                self._print(record)

    def _print(self, record: Record) -> None:
        """Prints a line at once; rich takes 140 us for it, and only a terminal needs it."""
        if self._options.write == STDOUT:
            return
        if not self._options.json and self._output.is_terminal:
            self._output.print(record.line(), soft_wrap=True)
        else:
            print(record.json() if self._options.json else record.line().plain, flush=True)

    def summary(self, handle: nfq.NetfilterQueueHandle) -> str:
        """What there was, for people. To be called before the queue is gone."""
        stats = handle.stats()
        seconds = time.monotonic() - self._start
        lines = [
            f"{counted(self.packets, 'packet')}, {counted(self.bytes, 'byte')} in {seconds:.1f} s",
            f"{counted(self.shown, 'packet')} shown",
            *kernel_drops(self._options.queue),
            counted(stats.overruns, "overrun"),
            f"{counted(stats.truncated, 'packet')} cut short",
        ]
        if stats.verdict_errors:
            lines.append(f"{counted(stats.verdict_errors, 'verdict')} refused by the kernel")
        return "\n".join(lines)


def counted(count: int, noun: str) -> str:
    """As people say it: 1 packet, 2 packets."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def kernel_drops(number: int) -> list[str]:
    """What the kernel has counted for a queue. It reports that to root only."""
    try:
        (status,) = (status for status in nfq.queue_status() if status.queue == number)
    except OSError:
        return ["packets dropped by the kernel: unknown, only root can read this"]
    by_kernel = "dropped by the kernel because"
    return [
        f"{counted(status.queue_dropped, 'packet')} {by_kernel} the queue was full",
        f"{counted(status.user_dropped, 'packet')} {by_kernel} the receive buffer was full",
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
        watch = Watch(options, capture)
        signals = stack.enter_context(awaitable_signals())
        handle = stack.enter_context(nfq.open())
        handle.rcvbuf = RCVBUF
        bind(handle, watch, options)
        if capture is not None:
            capture.begin()
        print(f"Queue {options.queue} is bound; Ctrl-C ends.", file=sys.stderr, flush=True)
        try:
            return watch.run(handle, signals)
        finally:
            print(watch.summary(handle), file=sys.stderr, flush=True)
