# SPDX-License-Identifier: GPL-2.0-or-later
"""Has a function decide on captured packets, one after the other, on the fake kernel."""

import asyncio
import collections
import contextlib
import inspect
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import libnetfilterqueue as nfq
from libnetfilterqueue import aio
from libnetfilterqueue._arguments import is_coroutine_function
from libnetfilterqueue._backlog import settle
from libnetfilterqueue.cli._captured_packet import CapturedPacket
from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._replayed import Outcome, Replayed
from libnetfilterqueue.testing import FakeKernel

QUEUE = 1
FLAGS = nfq.NFQA_CFG_F_UID_GID
BATCH = 64  # packets that are sent before the first of them is reported
CONCURRENCY = 100  # packets that handlers have at the same time
PATIENCE = 5.0  # seconds that verdicts of kept packets are waited for, at the end
REPEATS = 100  # how often a packet may come back by NF_REPEAT

Callback = Callable[[nfq.NetfilterQueueData], object]
Handler = Callable[[nfq.NetfilterQueueData], Awaitable[object]]
Report = Callable[[list[Outcome]], None]


class Replay:
    """The packets that were sent and are not reported yet."""

    def __init__(
        self, kernel: FakeKernel, packets: Iterator[CapturedPacket], default: int, report: Report
    ) -> None:
        self._kernel = kernel
        self._packets = packets
        self._default = default
        self._report = report
        self._sent: collections.deque[Replayed] = collections.deque()

    def by_callback(self, callback: Callback) -> None:
        """Has a callback decide. What it keeps may get its verdict later, from another thread."""

        def noting_errors(packet: nfq.NetfilterQueueData) -> None:
            try:
                refuse_awaitable(callback(packet))
            except Exception as error:  # noqa: BLE001 (whatever it raises, the next packet comes)
                self._note(packet, error)

        with self._kernel.open() as handle:
            handle.create_queue(QUEUE, noting_errors, flags=FLAGS, default_verdict=self._default)
            while self._send(BATCH):
                rounds = 0
                while handle.process():
                    self._report_settled()
                    rounds += 1
                    check_repeats(rounds)
            end = time.monotonic() + PATIENCE
            for replayed in self._sent:
                with contextlib.suppress(TimeoutError):
                    replayed.sent.wait(max(0.0, end - time.monotonic()))
        self._report_settled()

    async def by_handler(self, handler: Handler) -> None:
        """Has a handler decide, in a task of asyncio's for each packet."""
        ended = asyncio.Event()

        async def noting_errors(packet: nfq.NetfilterQueueData) -> None:
            try:
                await handler(packet)
            except Exception as error:  # noqa: BLE001 (whatever it raises, the next packet comes)
                self._note(packet, error)
            finally:
                settle(packet)
                ended.set()

        stream = aio.open_queue(
            QUEUE, flags=FLAGS, default_verdict=self._default, handle=self._kernel.open()
        )
        async with stream:
            serving = asyncio.create_task(
                aio.serve(stream, noting_errors, concurrency=CONCURRENCY), name="serve"
            )
            in_vain = 0
            while self._send(CONCURRENCY - len(self._sent)) or self._sent:
                await ended.wait()
                ended.clear()
                stream.handle.flush()
                in_vain = 0 if self._report_settled() else in_vain + 1
                check_repeats(in_vain - CONCURRENCY)  # so many may end before the first one
            stream.stop()
            await serving

    def _send(self, most: int) -> bool:
        """Sends so many packets at most; whether there were any."""
        before = len(self._sent)
        for captured in itertools.islice(self._packets, most):
            attributes = captured.attributes()
            # A packet that is repeated with another mark does not match its rule again.
            sent = self._kernel.enqueue(
                captured.get_payload(), QUEUE, match_mark=captured.mark, **attributes
            )
            self._sent.append(Replayed(captured, sent))
        return len(self._sent) > before

    def _note(self, packet: nfq.NetfilterQueueData, error: Exception) -> None:
        """The function has raised it."""
        for replayed in self._sent:
            if replayed.sent.id == packet.id:
                replayed.error = f"{type(error).__name__}: {error}"  # it would hold the packet

    def _report_settled(self) -> bool:
        """Reports the packets that have passed or were dropped, in their order; whether any."""
        settled: list[Outcome] = []
        while self._sent and (outcome := self._sent[0].outcome()) is not None:
            settled.append(outcome)
            self._sent.popleft()
        if settled:
            self._report(settled)
        return bool(settled)


def refuse_awaitable(result: object) -> None:
    """Raises TypeError for what nobody would await."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("it has returned an awaitable, and is no asynchronous function")


def check_repeats(times: int) -> None:
    """Raises CommandError if packets come back for ever."""
    if times > REPEATS:
        raise CommandError(
            f"packets have come back {REPEATS} times by NF_REPEAT: give them another mark with it"
        )


def replay(function: Any, packets: Iterator[CapturedPacket], default: int, report: Report) -> None:
    """Has a callback or a handler decide on the packets.

    Raises CommandError if packets come back for ever, and what reading them raises, once all that
    could be read is reported.
    """
    damage: list[CommandError] = []

    def readable() -> Iterator[CapturedPacket]:
        try:
            yield from packets
        except CommandError as error:
            damage.append(error)

    with FakeKernel() as kernel:
        replaying = Replay(kernel, readable(), default, report)
        if is_coroutine_function(function):
            asyncio.run(replaying.by_handler(function))
        else:
            replaying.by_callback(function)
    if damage:
        raise damage[0]
