# SPDX-License-Identifier: GPL-2.0-or-later
"""Filter DNS over UDP: drop queries for some names, change the addresses in some answers.

    iptables -A OUTPUT -p udp --dport 53 -j NFQUEUE --queue-num 1
    iptables -A INPUT -p udp --sport 53 -j NFQUEUE --queue-num 1
    pip install dnspython
    python dns_filter.py [QUEUE] --block ads.example --rewrite www.example=192.0.2.1

For IPv6, the same rules by ip6tables. A blocked name takes all names below it along; --block-file
names a file with one a line. A message that is not DNS is dropped, since nobody knows what it asks.
DNS over TCP needs a rule that rejects it. Ends with Ctrl-C or SIGTERM.
"""

import argparse
import asyncio
import ipaddress
import signal
import socket
import struct
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

UDP_HEADER = 8
IPV6_HEADER = 40


def udp_start(packet: bytes) -> int:
    """Return where the UDP header of an IP packet starts."""
    if packet[0] >> 4 == 4:
        return (packet[0] & 15) * 4
    if packet[6] != socket.IPPROTO_UDP:
        raise ValueError("extension headers before UDP")  # DNS has no use for them
    return IPV6_HEADER


def with_message(packet: bytes, message: bytes) -> bytearray:
    """Return the packet with another DNS message in it."""
    start = udp_start(packet)
    changed = bytearray(packet[: start + UDP_HEADER] + message)
    struct.pack_into("!H", changed, start + 4, UDP_HEADER + len(message))
    if changed[0] >> 4 == 4:
        struct.pack_into("!H", changed, 2, len(changed))
    else:
        struct.pack_into("!H", changed, 4, len(changed) - IPV6_HEADER)
    nfq.update_checksums(changed)
    return changed


class Filter:
    """What is dropped and what is changed. Names are compared without regard to case."""

    def __init__(self, blocked: set[dns.name.Name], rewrites: dict[dns.name.Name, str]) -> None:
        self._blocked = blocked
        self._rewrites = rewrites

    def decide(self, packet: nfq.NetfilterQueueData) -> None:
        """Give the packet its verdict."""
        payload = packet.get_payload()
        try:
            wire = payload[udp_start(payload) + UDP_HEADER :]
            message = dns.message.from_wire(wire, keyring=False)
        except (dns.exception.DNSException, ValueError) as error:
            print(f"Dropped: {error}", flush=True)
            packet.drop()
            return
        if message.flags & dns.flags.QR:
            changed = self._rewrite(message)
            packet.accept(payload=with_message(payload, message.to_wire()) if changed else None)
        elif any(self._is_blocked(question.name) for question in message.question):
            print(f"Dropped the query for {message.question[0].name}", flush=True)
            packet.drop()
        else:
            packet.accept()

    def _is_blocked(self, name: dns.name.Name) -> bool:
        while name not in self._blocked:
            if name == dns.name.root:
                return False
            name = name.parent()
        return True

    def _rewrite(self, message: dns.message.Message) -> bool:
        """Change the answer's addresses; return whether there was one to change."""
        changed = False
        for index, rrset in enumerate(message.answer):
            address = self._rewrites.get(rrset.name)
            if address is not None and rrset.rdtype == dns.rdatatype.A:
                message.answer[index] = dns.rrset.from_text(
                    rrset.name, rrset.ttl, rrset.rdclass, rrset.rdtype, address
                )
                print(f"Rewrote {rrset.name} to {address}", flush=True)
                changed = True
        return changed


async def main(number: int, dns_filter: Filter) -> None:
    """Filter until interrupted."""
    async with aio.open_queue(number) as stream:
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stream.close)
        print(f"Queue {number} is bound", flush=True)
        async for packet in stream:
            dns_filter.decide(packet)


def rewrite(argument: str) -> tuple[dns.name.Name, str]:
    """Return what NAME=ADDRESS says."""
    name, _, address = argument.partition("=")
    return dns.name.from_text(name), str(ipaddress.IPv4Address(address))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("queue", type=int, nargs="?", default=1)
    parser.add_argument("--block", type=dns.name.from_text, action="append", default=[])
    parser.add_argument("--block-file", type=Path)
    parser.add_argument("--rewrite", type=rewrite, action="append", default=[])
    options = parser.parse_args()
    names = options.block_file.read_text().split() if options.block_file else []
    blocked = {*options.block, *map(dns.name.from_text, names)}
    asyncio.run(main(options.queue, Filter(blocked, dict(options.rewrite))))
