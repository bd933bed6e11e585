# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in trio, a task for each, by nothing but the handle's descriptor.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    pip install trio
    python trio_loop.py [QUEUE [SECONDS]]

Each packet is kept for so many seconds (0.1), in which its task could ask a database, and then
passes. Ends with Ctrl-C or SIGTERM: the tasks are cancelled, and their packets are dropped.
"""

import signal
import sys

import trio

import libnetfilterqueue as nfq


async def serve(handle: nfq.NetfilterQueueHandle) -> None:
    """Feed the handle until cancelled."""
    while True:
        await trio.lowlevel.wait_readable(handle)
        handle.process()  # one batch, without waiting; trio looks at other tasks between two


async def decide(packet: nfq.NetfilterQueueData, seconds: float) -> None:
    """Decide on a packet; cancelled, it leaves the packet to its queue's default verdict."""
    print(f"Packet {packet.id}, {packet.original_length} bytes: kept", flush=True)
    await trio.sleep(seconds)
    packet.accept()
    print(f"Packet {packet.id}: accepted", flush=True)


async def main(number: int, seconds: float) -> None:
    """Decide on packets until interrupted."""
    with nfq.open() as handle, trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            def callback(packet: nfq.NetfilterQueueData) -> None:
                nursery.start_soon(decide, packet, seconds)

            # As many tasks as packets may wait: the kernel drops more than maxlen of them.
            handle.create_queue(number, callback, range=1, maxlen=1024)
            print(f"Queue {number} is bound", flush=True)
            nursery.start_soon(serve, handle)
            async for _ in signals:
                nursery.cancel_scope.cancel()
    stats = handle.stats()
    print(f"{stats.packets} packets, {stats.defaulted} of them by default")


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv[1:]))
    trio.run(main, int(arguments.get(0, 1)), float(arguments.get(1, 0.1)))
