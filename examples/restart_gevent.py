# SPDX-License-Identifier: GPL-2.0-or-later
"""A gevent service that is restarted without losing a packet.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    pip install 'libnetfilterqueue[gevent]'
    libnetfilterqueue keep -- python restart_gevent.py [QUEUE [SECONDS [PATIENCE]]]
    pkill -HUP -f 'libnetfilterqueue keep'

Each packet has a greenlet for so many seconds (0.1), in which it could ask a database, and then
passes. After SIGTERM or Ctrl-C no more packets are read, and the greenlets have so many seconds
(PATIENCE, 5) to finish. All other packets wait for the next start; if nobody keeps the queue, they
are dropped.
"""

import signal
import sys

import gevent

import libnetfilterqueue as nfq
from libnetfilterqueue import green, keeping


def main(number: int = 1, seconds: float = 0.1, patience: float = 5) -> None:
    """Decide on packets until terminated."""

    def decide(packet: nfq.Packet) -> None:
        gevent.sleep(seconds)
        packet.accept()

    def end() -> None:
        stream.stop()
        gevent.spawn_later(patience, stream.close)  # which kills the greenlets that are left

    with green.open_queue(number, handle=keeping.open(), unanswered=nfq.NF_REPEAT) as stream:
        for signum in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(signum, end)
        print(f"Queue {number} is bound, kept: {stream.handle.kept}", flush=True)
        green.serve(stream, decide)
    stats = stream.handle.stats()
    print(f"{stats.packets} packets, {stats.verdicts} verdicts", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *map(float, sys.argv[2:]))
