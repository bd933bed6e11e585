# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic that rules are about: what `libnetfilterqueue rules` is told of it, and packets like it.

Each case is tried with the rules of iptables, and in qemu with those of nft.
"""

import contextlib
import os
import shlex
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from netns import LOOPBACK, TIMEOUT, Namespace, UdpPair, run
from queues import Handle, process_until
from segments import router

import libnetfilterqueue as nfq
from libnetfilterqueue.cli import main

V4, V6 = socket.AF_INET, socket.AF_INET6
TCP, UDP, ICMP, ESP, ICMPV6, SCTP = 6, 17, 1, 50, 58, 132
MATCHING, OTHER = b"what the rule is about", b"what it is not about"


class Traffic(NamedTuple):
    """Packets over loopback."""

    family: int = V4
    proto: int = UDP
    sport: int = 1000
    dport: int = 53
    mark: int = 0
    source: str | None = None

    @contextlib.contextmanager
    def sender(self) -> Iterator[socket.socket]:
        """A socket that sends it. It also receives it, so that the kernel does not object."""
        with socket.socket(self.family, socket.SOCK_RAW, self.proto) as sock:
            sock.settimeout(TIMEOUT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
            sock.bind((self.source or LOOPBACK[self.family], 0))
            yield sock

    def send(self, data: bytes) -> None:
        """Sends a packet whose header of 8 bytes has ports, or says that nobody should answer."""
        ports = (self.sport, self.dport) if self.proto not in {ICMP, ICMPV6} else (0, 0)
        header = struct.pack("!HHHH", *ports, 8 + len(data), 0)
        with self.sender() as sock:
            sock.sendto(header + data, (LOOPBACK[self.family], 0))


class Case(NamedTuple):
    """What `rules` is told, a packet that is meant, and one that is not."""

    arguments: str
    matching: Traffic
    other: Traffic | None
    hook: nfq.Hook


CASES = [
    Case(
        "--proto udp --dport 53",
        Traffic(),
        Traffic(dport=54),
        nfq.NF_INET_LOCAL_OUT,
    ),
    Case(
        "--proto tcp --sport 1000-2000 --hook input",
        Traffic(V6, TCP, sport=1999),
        Traffic(V6, TCP, sport=2001),
        nfq.NF_INET_LOCAL_IN,
    ),
    Case(
        "--proto sctp --sport 4 --dport 5 --hook postrouting --bypass",
        Traffic(V4, SCTP, 4, 5),
        Traffic(V4, SCTP, 4, 6),
        nfq.NF_INET_POST_ROUTING,
    ),
    Case(
        "--proto icmp --hook prerouting",
        Traffic(V4, ICMP),
        Traffic(V4, ESP),
        nfq.NF_INET_PRE_ROUTING,
    ),
    Case("--proto icmpv6", Traffic(V6, ICMPV6), Traffic(V6, ESP), nfq.NF_INET_LOCAL_OUT),
    Case("--proto esp --hook input", Traffic(V6, ESP), Traffic(V6), nfq.NF_INET_LOCAL_IN),
    Case(
        "--src 127.0.0.0/30 --dst 127.0.0.1 --hook input",
        Traffic(source="127.0.0.2"),
        Traffic(source="127.0.0.5"),
        nfq.NF_INET_LOCAL_IN,
    ),
    Case("--src ::1 --dst ::/64", Traffic(V6), Traffic(V4), nfq.NF_INET_LOCAL_OUT),
    Case("--mark 0x2a", Traffic(mark=42), Traffic(mark=2), nfq.NF_INET_LOCAL_OUT),
    Case(f"--uid {os.geteuid()} --proto esp", Traffic(V4, ESP), None, nfq.NF_INET_LOCAL_OUT),
    Case("--in lo --proto esp --hook input", Traffic(V4, ESP), None, nfq.NF_INET_LOCAL_IN),
    Case("--out lo --proto esp", Traffic(V6, ESP), None, nfq.NF_INET_LOCAL_OUT),
]
# In which no answer to the other direction goes the same way.
FORWARD = "--proto udp --hook forward --in toleft --out toright"
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.arguments)


def printed_commands(
    arguments: str, tool: str, capsys: pytest.CaptureFixture[str], queue: str = "1"
) -> list[str]:
    """The commands that `rules` prints for one tool."""
    assert main(["rules", "--queue", queue, "--tool", tool, *shlex.split(arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def check_case(case: Case, commands: list[str], handle: Handle) -> None:
    """The rules queue the packet that is meant, at its hook, and not the other one before it."""
    for command in commands:
        run(command)
    packets: list[nfq.Packet] = []
    handle.create_queue(1, packets.append)
    if case.other is not None:
        case.other.send(OTHER)
    case.matching.send(MATCHING)
    process_until(handle, lambda: packets)
    assert packets[0].get_payload().endswith(MATCHING)
    assert packets[0].family == case.matching.family
    assert packets[0].hook == case.hook


def check_forward(commands: list[str], handle: Handle, netns: Namespace) -> None:
    """The rules for what is forwarded from one device to the other queue no other direction."""
    with router(netns) as route:
        for command in commands:
            run(command)
        packets: list[nfq.Packet] = []
        handle.create_queue(1, packets.append)
        for sender, address, data in (
            (route.right, route.ends[0], OTHER),
            (route.left, route.ends[1], MATCHING),
        ):
            with sender, socket.socket(V4, socket.SOCK_DGRAM) as sock:
                sock.sendto(data, (address, 9))
        process_until(handle, lambda: packets)
        assert packets[0].get_payload().endswith(MATCHING)
        assert packets[0].hook == nfq.NF_INET_FORWARD


def check_bypass(commands: list[str], arrived: list[bytes]) -> None:
    """While nobody listens, that is what arrives of a packet that they are about."""
    for command in commands:
        run(command)
    with UdpPair() as udp:
        udp.send(b"data")
        assert udp.arrivals() == arrived


def check_fanout(commands: list[str], handle: Handle) -> None:
    """The rules for queues 1 to 4 send a packet to that of the processor that sends it."""
    for command in commands:
        run(command)
    numbers: list[int] = []
    for number in range(1, 5):
        handle.create_queue(number, lambda packet: numbers.append(packet.queue.number))
    processors = os.sched_getaffinity(0)
    try:
        for processor in processors:
            os.sched_setaffinity(0, {processor})
            Traffic().send(MATCHING)
            process_until(handle, lambda: numbers)
            assert numbers == [1 + processor % 4]
            numbers.clear()
    finally:
        os.sched_setaffinity(0, processors)
