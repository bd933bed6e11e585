#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Records the fuzzer's corpus: the kernel's own messages, one a file, from a private namespace.

Run it with the Python that has the package: python tests/fuzz/record_message.py
"""

import hashlib
import socket
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from netns import (  # noqa: E402 (tests/support has to be on the path)
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
from played_kernel import (  # noqa: E402
    MSG_CONFIG,
    MSG_PACKET,
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    NFQA_CT,
    NFQA_VERDICT_HDR,
    NFQA_VLAN,
    NLM_F_ACK,
    NLMSG_NOOP,
    attribute,
    attributes_of,
    message,
)
from queues import netlink_socket  # noqa: E402

import libnetfilterqueue as nfq  # noqa: E402

CORPUS = HERE / "corpus" / "message"
NESTED = HERE / "corpus" / "nested"
NLM_F_REQUEST = 1
NFQA_CFG_PARAMS = 2
SO_TIMESTAMP = 29  # asm/socket.h
LONGEST = 2048  # what lies behind is payload: no use to the fuzzer


def save(data: bytes, corpus: Path = CORPUS) -> None:
    """Keeps a message; a long one as a short buffer would have cut it."""
    data = data[:LONGEST]
    (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def record_packets(family: int, mode: nfq.CopyMode, copy_range: int, flags: int) -> None:
    """A small and a large datagram, with a mark and a timestamp."""
    with private_namespace(), nfq.open() as handle, UdpPair(family) as pair:
        pair.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
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
    """A packet that came by Ethernet."""
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
    """What the kernel answers: to a marker, to configuration requests, to verdicts."""
    family_header = struct.pack("!BBH", socket.AF_UNSPEC, 0, 1)
    params = attribute(NFQA_CFG_PARAMS, struct.pack("!IB", 0xFFFF, nfq.NFQNL_COPY_PACKET))
    verdict = attribute(NFQA_VERDICT_HDR, struct.pack("!II", nfq.NF_ACCEPT, 99))
    with private_namespace(), nfq.open() as handle, netlink_socket(handle) as sock:
        for bound in (False, True):
            if bound:
                handle.create_queue(1, lambda _: None)
            for kind, body in (
                (NLMSG_NOOP, b""),
                (MSG_CONFIG, family_header + params),
                (MSG_VERDICT, family_header + verdict),
                (MSG_VERDICT_BATCH, family_header + verdict),
            ):
                sock.send(message(kind, body, 7, NLM_F_REQUEST | NLM_F_ACK))
                save(sock.recv(1 << 17))


def save_nested() -> None:
    """Keeps the conntrack entries and VLAN tags of the messages that are there."""
    for path in CORPUS.iterdir():
        data = path.read_bytes()
        if struct.unpack_from("=H", data, 4) == (MSG_PACKET,):
            for kind, value in attributes_of(data).items():
                if kind in (NFQA_CT, NFQA_VLAN):
                    save(value, NESTED)


def main() -> None:
    for corpus in (CORPUS, NESTED):
        corpus.mkdir(parents=True, exist_ok=True)
    isolate()
    everything = nfq.NFQA_CFG_F_UID_GID | nfq.NFQA_CFG_F_GSO
    for family in LOOPBACK:
        record_packets(family, nfq.NFQNL_COPY_PACKET, 0xFFFF, everything)
        record_packets(family, nfq.NFQNL_COPY_PACKET, 100, 0)
        record_packets(family, nfq.NFQNL_COPY_META, 0, everything)
    record_ethernet()
    record_answers()
    save_nested()
    print(f"{len(list(CORPUS.iterdir()))} messages in {CORPUS}")


if __name__ == "__main__":
    main()
