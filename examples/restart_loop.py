# SPDX-License-Identifier: GPL-2.0-or-later
"""A receive loop of your own that is restarted without losing a packet.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    libnetfilterqueue keep -- python restart_loop.py [QUEUE [SECONDS [PATIENCE]]]
    pkill -HUP -f 'libnetfilterqueue keep'

Each packet is kept for so many seconds (0.1), and then passes. After SIGTERM or Ctrl-C no more
packets are read, and those that are kept have so many seconds (PATIENCE, 5). All other packets wait
for the next start; if nobody keeps the queue, they are dropped.
"""

import os
import select
import signal
import socket
import sys
import time
from collections import deque

import libnetfilterqueue as nfq
from libnetfilterqueue import keeping


class Delay:
    """Packets that are kept for so many seconds each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[tuple[float, nfq.Packet]] = deque()  # with their times, oldest first

    def keep(self, packet: nfq.Packet) -> None:
        """Keep a packet: the callback."""
        self._kept.append((time.monotonic() + self._seconds, packet))

    def release(self) -> None:
        """Let those pass whose time has come."""
        while self._kept and self._kept[0][0] <= time.monotonic():
            self._kept.popleft()[1].accept()

    def left(self) -> float | None:
        """Return the seconds until the next one passes, None if no packet is kept."""
        return max(0.0, self._kept[0][0] - time.monotonic()) if self._kept else None


def run(handle: nfq.Handle, delay: Delay, terminated: socket.socket) -> None:
    """Receive until terminated."""
    with socket.socket(fileno=os.dup(handle.fd())) as sock:
        while True:
            ready, _, _ = select.select([sock, terminated], [], [], delay.left())
            if terminated in ready:
                return
            if sock in ready:
                handle.handle_packet(sock.recv(66000))
            delay.release()


def finish(delay: Delay, patience: float) -> None:
    """Wait until those that are kept have passed, or for so many seconds."""
    end = time.monotonic() + patience
    while (left := delay.left()) is not None and time.monotonic() + left <= end:
        time.sleep(left)
        delay.release()


def main(number: int = 1, seconds: float = 0.1, patience: float = 5) -> None:
    """Decide on packets until terminated."""
    terminated, writer = socket.socketpair()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: writer.send(b"."))
    delay = Delay(seconds)
    with terminated, writer, keeping.open() as handle:
        handle.no_enobufs = True  # recv() raises nothing where packets were lost
        handle.create_queue(number, delay.keep, unanswered=nfq.NF_REPEAT)
        print(f"Queue {number} is bound, kept: {handle.kept}", flush=True)
        run(handle, delay, terminated)
        finish(delay, patience)
    stats = handle.stats()
    print(f"{stats.packets} packets, {stats.verdicts} verdicts", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *map(float, sys.argv[2:]))
