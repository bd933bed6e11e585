# SPDX-License-Identifier: GPL-2.0-or-later
"""A flood of datagrams through queue 1, and what has become of them."""

import contextlib
import threading
import time
from collections.abc import Iterator

from netns import PORT, TIMEOUT, Counter, UdpPair, background, queue_rule
from statuses import status, visible


class Flood:
    """Datagrams that a thread sends through queue 1 as fast as it can; what passes is counted."""

    def __init__(self, burst: int = 100) -> None:
        queue_rule(1)
        self._burst = burst
        self._passed = Counter("INPUT", f"-p udp --dport {PORT}", target="DROP")
        self._stop = threading.Event()
        self.sent = 0

    @property
    def passed(self) -> int:
        return self._passed.packets

    def _send(self, udp: UdpPair) -> None:
        while not self._stop.is_set():
            udp.send(*[b"data"] * self._burst)
            self.sent += self._burst
            time.sleep(0)  # under monkey-patching this thread is a greenlet

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Sends for the length of the block."""
        with UdpPair() as udp:
            sending = background(self._send, udp)
            yield
            self._stop.set()
            sending.result(TIMEOUT)

    def check_counters(self, full: str) -> None:
        """The kernel has counted all that was lost, under what was full, and nothing waits."""
        if visible():  # else it tells nobody
            line = status()[1]
            lost = self.sent - self.passed
            expected = (lost, 0) if full == "queue" else (0, lost)
            assert (line.queue_dropped, line.user_dropped) == expected
            assert line.waiting == 0
