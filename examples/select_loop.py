# SPDX-License-Identifier: GPL-2.0-or-later
"""A loop of the standard library's selectors: a handle is a descriptor like any other.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    python select_loop.py [QUEUE]

Beside the handle it waits for a socket to which Python writes the signals that arrive. Ends with
Ctrl-C or SIGTERM.
"""

import selectors
import signal
import socket
import sys

import libnetfilterqueue as nfq


def callback(packet: nfq.NetfilterQueueData) -> None:
    """Print a packet and let it pass."""
    device = packet.outdev_name() or packet.indev_name()
    print(f"{packet.hook.name} {device} {packet.original_length} bytes", flush=True)
    packet.accept()


def main(number: int = 1) -> None:
    """Wait for packets and signals."""
    signals, writer = socket.socketpair()
    with signals, writer, nfq.open() as handle, selectors.DefaultSelector() as selector:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: None)  # it is written to the socket, that is enough
        handle.create_queue(number, callback)
        selector.register(handle, selectors.EVENT_READ)
        selector.register(signals, selectors.EVENT_READ)
        print(f"Queue {number} is bound", flush=True)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if handle in ready:
                handle.process()  # one batch, without waiting
            if signals in ready:
                break
        signal.set_wakeup_fd(-1)
        print(signal.Signals(signals.recv(1)[0]).name)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
