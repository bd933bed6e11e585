# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in trio, a task for each.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    pip install 'libnetfilterqueue[trio]'
    python trio_loop.py [QUEUE [SECONDS]]

Each packet is kept for so many seconds (0.1), in which its task could ask a database, and then
passes. Ends with Ctrl-C or SIGTERM: the tasks are cancelled, and their packets are dropped.
"""

import functools
import signal
import sys

import trio

import libnetfilterqueue as nfq
from libnetfilterqueue.trio import open_queue, serve

MAXLEN = 1024  # packets that may wait, each in its task: the kernel drops more of them


async def decide(packet: nfq.Packet, seconds: float) -> None:
    """Decide on a packet; cancelled, it leaves the packet to its queue's default verdict."""
    print(f"Packet {packet.id}, {packet.original_length} bytes: kept", flush=True)
    await trio.sleep(seconds)
    packet.accept()
    print(f"Packet {packet.id}: accepted", flush=True)


async def main(number: int, seconds: float) -> None:
    """Decide on packets until interrupted."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_queue(number, range=1, maxlen=MAXLEN) as stream:
            print(f"Queue {number} is bound", flush=True)
            async with trio.open_nursery() as nursery:
                handler = functools.partial(decide, seconds=seconds)
                nursery.start_soon(functools.partial(serve, stream, handler, concurrency=MAXLEN))
                async for _ in signals:
                    nursery.cancel_scope.cancel()
            stats = stream.handle.stats()
    print(f"{stats.packets} packets, {stats.verdicts} verdicts")


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv[1:]))
    trio.run(main, int(arguments.get(0, 1)), float(arguments.get(1, 0.1)))
