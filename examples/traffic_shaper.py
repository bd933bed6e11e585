# SPDX-License-Identifier: GPL-2.0-or-later
"""Shape traffic in an asyncio application that also serves HTTP, both on one loop.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    pip install aiohttp
    python traffic_shaper.py [QUEUE [RATE [PORT]]]
    curl http://127.0.0.1:8080/
    curl -d rate=50000 http://127.0.0.1:8080/

RATE is in bytes a second. Packets that exceed it are kept, and get their verdict when it is their
turn; the kernel drops more than 1024 of them (maxlen). Ends with Ctrl-C or SIGTERM, and lets pass
then what still waits.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator

from aiohttp import web

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

BURST = 0.01  # seconds' worth of bytes that may pass at once; a loop's timers are 1 ms late


class Shaper:
    """A token bucket. It is the callback of a queue, and lives in a running loop."""

    def __init__(self, rate: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[nfq.NetfilterQueueData] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._full_at = self._loop.time()  # when the bucket will be full again
        self.rate = rate

    def __call__(self, packet: nfq.NetfilterQueueData) -> None:
        """Keep the packet until it may pass, which may be now."""
        self._waiting.append(packet)
        if self._timer is None:
            self._release()

    def __len__(self) -> int:
        """Return how many packets wait."""
        return len(self._waiting)

    def _release(self) -> None:
        """Let pass what may pass now, and come back for the rest."""
        self._timer = None
        now = self._loop.time()
        while self._waiting and self._full_at <= now + BURST:
            packet = self._waiting.popleft()
            packet.accept()  # sent at the end of the loop's turn, with the others
            self._full_at = max(self._full_at, now) + packet.original_length / self.rate
        if self._waiting:
            self._timer = self._loop.call_later(self._full_at - BURST - now, self._release)

    def set_rate(self, rate: float) -> None:
        """Change the rate, for packets that wait already too."""
        now = self._loop.time()
        self._full_at = now + max(self._full_at - now, 0) * self.rate / rate
        self.rate = rate
        self.stop()
        self._release()

    def stop(self) -> None:
        """Release no more packets."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Application:
    """The queue and its page, as long as the server runs."""

    def __init__(self, number: int, rate: float) -> None:
        self._number = number
        self._rate = rate

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Shape from the start of the server to its end."""
        self._shaper = Shaper(self._rate)
        with nfq.open() as self._handle:
            # Only the length is needed, which comes with a packet that is cut short.
            self._handle.create_queue(
                self._number,
                self._shaper,
                range=1,
                default_verdict=nfq.NF_ACCEPT,
            )
            with aio.attach(self._handle):
                yield
            self._shaper.stop()

    async def status(self, _: web.Request) -> web.Response:
        """Answer with the counters."""
        return web.json_response(
            {
                **self._handle.stats()._asdict(),
                "waiting": len(self._shaper),
                "rate": self._shaper.rate,
            }
        )

    async def change(self, request: web.Request) -> web.Response:
        """Set another rate."""
        form = await request.post()
        try:
            rate = float(str(form["rate"]))
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="rate=NUMBER is missing\n") from None
        if not 1 <= rate <= 1e12:
            raise web.HTTPBadRequest(text="rate must be from 1 to 1e12 bytes a second\n")
        self._shaper.set_rate(rate)
        return await self.status(request)


def main(number: int = 1, rate: int = 100_000, port: int = 8080) -> None:
    """Serve until interrupted."""
    shaping = Application(number, rate)
    app = web.Application()
    app.cleanup_ctx.append(shaping.run)
    app.add_routes([web.get("/", shaping.status), web.post("/", shaping.change)])
    web.run_app(app, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
