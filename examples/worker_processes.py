# SPDX-License-Identifier: GPL-2.0-or-later
"""A pool of processes over several queues: callbacks run in parallel on any Python.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-balance 0:3
    python worker_processes.py [FIRST [COUNT]]

The kernel chooses the queue by a packet's addresses; with --queue-cpu-fanout, by the processor that
it came in on. Each process opens a handle of its own. Ctrl-C or SIGTERM ends all of them, and each
first decides on what it has read. If one fails, the others end too; so they do if the parent is
killed.
"""

import multiprocessing
import signal
import sys
import threading
from hashlib import sha256
from multiprocessing import connection, resource_tracker

import libnetfilterqueue as nfq

FORBIDDEN = {sha256(b"forbidden").digest()}
HEADERS = 28  # of a datagram over IPv4


def decide(packet: nfq.NetfilterQueueData) -> None:
    """Decide on a packet, in the process of its queue."""
    if sha256(packet.payload[HEADERS:]).digest() in FORBIDDEN:
        packet.drop()
    else:
        packet.accept()


def follow(packets: nfq.PacketStream) -> None:
    """End when the parent has, also if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    packets.stop()


def work(number: int) -> None:
    """Decide on the packets of a queue until SIGTERM."""
    with nfq.open_queue(number) as packets:
        signal.signal(signal.SIGTERM, lambda *_: packets.stop())
        threading.Thread(target=follow, args=(packets,), daemon=True).start()
        print(f"Queue {number} is bound", flush=True)
        for packet in packets:
            decide(packet)
        print(f"Queue {number}: {packets.handle.stats().packets} packets", flush=True)


def main(first: int = 0, count: int = 4) -> None:
    """Work until interrupted, or until a process has failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=work, args=(number,)) for number in range(first, first + count)
    ]
    resource_tracker.ensure_running()  # the first start would do it, and let Ctrl-C through
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for good in those that inherit it
    try:
        for worker in workers:
            worker.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        connection.wait([worker.sentinel for worker in workers])
        sys.exit("A process has ended, so all do")
    except KeyboardInterrupt:
        pass
    finally:
        running = multiprocessing.active_children()
        for process in running:
            process.terminate()
        for process in running:
            process.join()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
