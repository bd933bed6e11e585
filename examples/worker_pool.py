# SPDX-License-Identifier: GPL-2.0-or-later
"""A pool of threads over several queues: each has a handle of its own, and they run in parallel.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-balance 0:3
    python worker_pool.py [FIRST [COUNT]]

The kernel chooses the queue by a packet's addresses, so those of a flow stay in order. A callback
that waits holds up its own queue only; one that hashes large packets runs on a processor of its
own, since hashlib lets other threads run meanwhile. Ends with Ctrl-C or SIGTERM.
"""

import signal
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from hashlib import sha256

import libnetfilterqueue as nfq

FORBIDDEN = {sha256(b"forbidden").digest()}
HEADERS = 28  # of a datagram over IPv4


def callback(packet: nfq.NetfilterQueueData) -> None:
    """Decide on a packet, in the thread of its queue."""
    if sha256(packet.payload[HEADERS:]).digest() in FORBIDDEN:
        packet.drop()
    else:
        packet.accept()


def work(handle: nfq.NetfilterQueueHandle) -> None:
    """Process packets until the handle is closed."""
    while True:
        try:
            handle.process(timeout=None)
        except nfq.ClosedError:
            if handle.closed:
                return
            raise


def main(first: int = 0, count: int = 4) -> None:
    """Work until interrupted, or until a thread has failed."""
    with ExitStack() as stack:
        handles = [stack.enter_context(nfq.open()) for _ in range(count)]
        queues = [
            handle.create_queue(number, callback) for number, handle in enumerate(handles, first)
        ]

        def close(*_: object) -> None:
            for handle in handles:
                handle.close()  # wakes the thread that waits in it

        pool = stack.enter_context(ThreadPoolExecutor(count))
        stack.callback(close)  # comes first: the pool waits for its threads
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, close)
        futures = [pool.submit(work, handle) for handle in handles]
        print(f"Queues {first} to {first + count - 1} are bound", flush=True)
        wait(futures, return_when=FIRST_COMPLETED)
    for queue in queues:
        print(f"Queue {queue.number}: {queue.handle.stats().packets} packets")
    for future in futures:
        future.result()  # raises what the thread has failed with


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
