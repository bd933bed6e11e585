# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that tests run with few privileges.

    privileged.py bind         creates queue 1
    privileged.py adopt FD     creates queue 1 on a netlink socket that it has inherited
    privileged.py elsewhere    opens a handle as if in another network namespace
    privileged.py hand FD      opens a handle and hands its socket over by that UNIX socket
    privileged.py packets      sends a datagram through queue 1 of its own network namespace
    privileged.py setuid UID   becomes that user between two packets

It tries one thing, and prints how that went.
"""

import os
import socket
import sys
from collections.abc import Callable

from netns import UdpPair, queue_rule, up
from queues import Handle, accept

import libnetfilterqueue as nfq


def bind() -> str:
    with nfq.open() as handle:
        return create_queue(handle)


def create_queue(handle: Handle) -> str:
    handle.create_queue(1, accept, mode=nfq.NFQNL_COPY_PACKET)
    return "bound"


def adopt(fd: str) -> str:
    with nfq.open(fd=int(fd)) as handle:
        return create_queue(handle)


def elsewhere() -> str:
    nfq.open(netns="/proc/self/ns/net").close()
    return "opened"


def hand(fd: str) -> str:
    with nfq.open() as handle, socket.socket(fileno=int(fd)) as receiver:
        socket.send_fds(receiver, [b"socket"], [handle.fd()])
    return "handed over"


def packets() -> str:
    up("lo")
    queue_rule(1)
    with UdpPair() as udp, nfq.open() as handle:
        handle.create_queue(1, accept, mode=nfq.NFQNL_COPY_PACKET)
        udp.send(b"data")
        handle.process(timeout=None)
        return f"{udp.arrivals()}"


def setuid(uid: str) -> str:
    queue_rule(1)
    refusals: list[str] = []
    with UdpPair() as udp, nfq.open() as handle:
        handle.on_verdict_error = lambda number, packet_id, error: refusals.append(str(error))
        handle.create_queue(1, accept, mode=nfq.NFQNL_COPY_PACKET)
        udp.send(b"1", b"2")
        handle.process(max_packets=1)
        os.setuid(int(uid))
        handle.process()
        handle.process()
        return f"{udp.arrivals()} {handle.stats().verdict_errors} {refusals}"


ACTIONS: dict[str, Callable[..., str]] = {
    action.__name__: action for action in (bind, adopt, elsewhere, hand, packets, setuid)
}

if __name__ == "__main__":
    try:
        print(ACTIONS[sys.argv[1]](*sys.argv[2:]))
    except OSError as error:
        print(f"{type(error).__name__}: {error}")
