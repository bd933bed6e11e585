# SPDX-License-Identifier: GPL-2.0-or-later
"""A FastAPI application beside a queue that is restarted without losing a packet.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    pip install libnetfilterqueue fastapi uvicorn
    libnetfilterqueue keep -- python restart_fastapi.py [QUEUE [SECONDS [PATIENCE [PORT]]]]
    curl http://127.0.0.1:8080/
    pkill -HUP -f 'libnetfilterqueue keep'

Each packet has a task for so many seconds (0.1), in which it could ask a database, and then passes.
After SIGTERM or Ctrl-C no more packets are read, and the tasks have so many seconds (PATIENCE, 5)
to finish. All other packets wait for the next start; if nobody keeps the queue, they are dropped.
"""

import asyncio
import contextlib
import functools
import math
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI

import libnetfilterqueue as nfq
from libnetfilterqueue import aio, keeping


async def decide(packet: nfq.Packet, seconds: float) -> None:
    """Decide on a packet: the handler, a task for each."""
    await asyncio.sleep(seconds)
    packet.accept()


def application(number: int, seconds: float, patience: float) -> FastAPI:
    """Make the application; it reads its queue as long as the server runs."""
    stream = aio.open_queue(number, handle=keeping.open(), unanswered=nfq.NF_REPEAT)
    handler = functools.partial(decide, seconds=seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with stream:
            serving = asyncio.create_task(aio.serve(stream, handler))
            print(f"Queue {number} is bound, kept: {stream.handle.kept}", flush=True)
            yield
            stream.stop()
            loop = asyncio.get_running_loop()
            loop.call_later(patience, stream.close)  # which cancels the tasks that are left
            await serving
        stats = stream.handle.stats()
        print(f"{stats.packets} packets, {stats.verdicts} verdicts", flush=True)

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def status() -> dict[str, int]:
        return stream.handle.stats()._asdict()

    return app


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv[1:]))
    patience = float(arguments.get(2, 5))
    app = application(int(arguments.get(0, 1)), float(arguments.get(1, 0.1)), patience)
    # Its own clients have as long: the application ends behind them.
    uvicorn.run(
        app, port=int(arguments.get(3, 8080)), timeout_graceful_shutdown=math.ceil(patience)
    )
