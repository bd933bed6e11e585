# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask before packets leave: a FastAPI application beside a queue, in one loop.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    pip install libnetfilterqueue fastapi uvicorn
    python fastapi_approval.py [QUEUE [PORT]]
    curl http://127.0.0.1:8080/waiting
    curl -X PUT 'http://127.0.0.1:8080/192.0.2.1?allowed=true'

The first packet to an address waits, and those behind it, until somebody has said whether it is
allowed. Ends with Ctrl-C or SIGTERM; what waits then is dropped.
"""

import asyncio
import contextlib
import ipaddress
import sys
from collections.abc import AsyncIterator

import anyio
import uvicorn
from fastapi import FastAPI

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

HEADER = 20  # bytes of IPv4's header, which end with the destination


class Approvals:
    """What has been said about addresses, and what is still to be said."""

    def __init__(self) -> None:
        self._answers: dict[str, asyncio.Future[bool]] = {}

    def _answer(self, address: str) -> "asyncio.Future[bool]":
        return self._answers.setdefault(address, asyncio.get_running_loop().create_future())

    async def decide(self, packet: nfq.Packet) -> None:
        """Decide on a packet: the handler, a task for each."""
        address = str(ipaddress.IPv4Address(packet.payload[HEADER - 4 : HEADER].tobytes()))
        if await asyncio.shield(self._answer(address)):  # others wait for it too
            packet.accept()
        else:
            packet.drop()

    def answer(self, address: str, allowed: bool) -> None:
        """Take an answer, which later ones replace."""
        if self._answer(address).done():
            del self._answers[address]
        self._answer(address).set_result(allowed)

    def waiting(self) -> list[str]:
        """Return the addresses that nobody has said anything about."""
        return [address for address, answer in self._answers.items() if not answer.done()]


def application(number: int) -> FastAPI:
    """Make the application; its queue lives as long as the server runs."""
    approvals = Approvals()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with (
            aio.open_queue(number, range=HEADER) as stream,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(aio.serve, stream, approvals.decide)
            yield
            stream.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/waiting")
    async def waiting() -> list[str]:
        return approvals.waiting()

    @app.put("/{address}")
    async def answer(address: ipaddress.IPv4Address, allowed: bool) -> None:
        approvals.answer(str(address), allowed)

    return app


if __name__ == "__main__":
    arguments = dict(enumerate(map(int, sys.argv[1:])))
    uvicorn.run(application(arguments.get(0, 1)), port=arguments.get(1, 8080))
