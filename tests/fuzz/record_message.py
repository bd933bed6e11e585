#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Records the fuzzer's corpus: the kernel's own messages, one a file, from a private namespace.

Run it with the Python that has the package: python tests/fuzz/record_message.py
"""

import hashlib
import socket
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from netns import (  # noqa: E402 (tests/ has to be on the path)
    LOOPBACK,
    Namespace,
    UdpPair,
    iptables,
    isolate,
    private_namespace,
    queue_rule,
    run,
    up,
    veth,
)
from queues import netlink_socket  # noqa: E402

import libnetfilterqueue as nfq  # noqa: E402

CORPUS = HERE / "corpus" / "message"
LONGEST = 2048  # what lies behind is payload: no use to the fuzzer


def save(data: bytes) -> None:
    """Keeps a message; a long one as a short buffer would have cut it."""
    data = data[:LONGEST]
    (CORPUS / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def record_packets(family: int, mode: nfq.CopyMode, copy_range: int, flags: int) -> None:
    """A small and a large datagram, with a mark and a timestamp."""
    with private_namespace(), nfq.open() as handle, UdpPair(family) as pair:
        pair.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_TIMESTAMP, 1)
        iptables("-t mangle -A OUTPUT -j MARK --set-mark 0x12345678", family)
        queue_rule(table="filter", chain="INPUT", family=family)
        queue_rule(table="mangle", chain="POSTROUTING", family=family)
        handle.create_queue(1, lambda _: None, mode=mode, range=copy_range, flags=flags)
        with netlink_socket(handle) as sock:
            for data in (b"data", bytes(60_000)):
                pair.send(data)
                message = sock.recv(1 << 17)
                save(message)
                handle.handle_packet(message)


def record_ethernet() -> None:
    """Packets that came by Ethernet, over a bridge if the kernel has them."""
    with private_namespace(), nfq.open() as handle:
        neighbour = Namespace()
        veth("inner", "outer", neighbour)
        run("ip address add 10.0.0.1/24 dev inner")
        with neighbour:
            run("ip address add 10.0.0.2/24 dev outer")
            up("lo")
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        queue_rule(match="-p udp", chain="PREROUTING")
        handle.create_queue(1, lambda _: None, mode=nfq.NFQNL_COPY_PACKET)
        with sender, netlink_socket(handle) as sock:
            sender.sendto(b"data", ("10.0.0.1", 1))
            save(sock.recv(1 << 17))
        neighbour.close()


def record_answers() -> None:
    """What the kernel answers to configuration requests and to verdicts it refuses."""
    with private_namespace(), nfq.open() as handle, UdpPair() as pair:
        queue_rule(1)
        packets: list[nfq.NetfilterQueueData] = []
        handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET)
        pair.send(b"data")
        handle.process(timeout=1)
        with netlink_socket(handle) as sock:
            config = bytes.fromhex("20000000020305000100000000000000000000010800010002000002")
            for request in (config + bytes(4), bytes.fromhex("10000000010005000700000000000000")):
                sock.send(request)
                save(sock.recv(1 << 17))
            packets[0].accept()
            save(sock.recv(1 << 17))


def main() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    isolate()
    everything = nfq.NFQA_CFG_F_UID_GID | nfq.NFQA_CFG_F_GSO
    for family in LOOPBACK:
        record_packets(family, nfq.NFQNL_COPY_PACKET, 0xFFFF, everything)
        record_packets(family, nfq.NFQNL_COPY_PACKET, 100, 0)
        record_packets(family, nfq.NFQNL_COPY_META, 0, everything)
    record_ethernet()
    record_answers()
    print(f"{len(list(CORPUS.iterdir()))} messages in {CORPUS}")


if __name__ == "__main__":
    main()
