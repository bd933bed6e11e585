# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue demo`: packets of a TCP and a UDP conversation pass through a queue.

It makes a private network namespace, so that no rule of this machine is touched. Where user
namespaces are allowed it needs no root. It works without the extra `cli`, and reads the headers of
its few packets itself.
"""

import argparse
import collections
import ctypes
import fcntl
import os
import socket
import struct
import threading
import time
from pathlib import Path

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._tools import find_tool, run_tool

QUEUE = 1
TCP_PORT = 8080
UDP_PORT = 5353
MARK = 0x2A
UNWANTED = b"something unwanted"
SECONDS = 10  # the conversations take a few milliseconds

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1

ROW = "{:>2} {:<9} {:<3} {:<6} {:<15} {:<15} {:>3} {:>4} {:>5} {}"  # 80 columns, with long uids
HEADINGS = ["id", "hook", "dev", "proto", "source", "destination", "len", "mark", "uid", "verdict"]


# A private place for it


def isolate() -> None:
    """Move into a new network namespace; without root, as root of a new user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWNET | (CLONE_NEWUSER if uid != 0 else 0))
        if uid != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as error:
        raise CommandError(
            f"no private network namespace here ({error.strerror}); run it as root, or allow user "
            "namespaces (sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns); in a container: --privileged"
        ) from error


def unshare(flags: int) -> None:
    """Move into new namespaces; see the manual page in section 2."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def bring_loopback_up() -> None:
    """Bring up the namespace's only device."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def add_rule(rule: str, program: str = "iptables") -> None:
    """Add a rule to the namespace's own table."""
    path = find_tool(program)
    if path is None:
        raise CommandError(f"{program} is missing; on Debian and Ubuntu: apt install iptables")
    print(f"# {program} {rule}")
    run_tool(path, *rule.split(), environment={"XTABLES_LOCKFILE": "/dev/null"})


# What packets say


def endpoints(payload: bytes) -> tuple[str, str, str, bytes]:
    """Return protocol, source, destination, and data of an IPv4 or IPv6 packet."""
    if payload[0] >> 4 == 4:
        protocol, start = payload[9], (payload[0] & 15) * 4
        source, destination = (socket.inet_ntoa(payload[at : at + 4]) for at in (12, 16))
    else:
        protocol, start = payload[6], 40
        addresses = (payload[at : at + 16] for at in (8, 24))
        source, destination = (f"[{socket.inet_ntop(socket.AF_INET6, a)}]" for a in addresses)
    segment = payload[start:]
    ports = struct.unpack_from("!HH", segment)
    if protocol == socket.IPPROTO_TCP:
        name, data = f"TCP {tcp_flags(segment[13])}", segment[(segment[12] >> 4) * 4 :]
    else:
        name, data = "UDP", segment[8:]
    return name, f"{source}:{ports[0]}", f"{destination}:{ports[1]}", data


def tcp_flags(flags: int) -> str:
    """Return a TCP segment's flags as their initials: S for SYN, and so on."""
    return "".join(name for bit, name in enumerate("FSRPA") if flags & 1 << bit)


class Decider:
    """The queue's callback: decides on each packet and notes its fields."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.verdicts: collections.Counter[nfq.Verdict] = collections.Counter()

    def __call__(self, packet: nfq.NetfilterQueueData) -> None:
        """Drop what is unwanted and accept the rest."""
        protocol, source, destination, data = endpoints(packet.get_payload())
        verdict = nfq.NF_DROP if data == UNWANTED else nfq.NF_ACCEPT
        packet.set_verdict(verdict)
        self.verdicts[verdict] += 1
        self.rows.append(
            ROW.format(
                packet.id,
                packet.hook.name.removeprefix("NF_INET_"),
                f"{packet.indev_name() or ''}>{packet.outdev_name() or ''}",
                protocol,
                source,
                destination,
                packet.original_length,
                f"{packet.mark:#x}" if packet.mark else "-",
                "-" if packet.uid is None else packet.uid,
                verdict.name.removeprefix("NF_"),
            )
        )


# The conversations


def talk_tcp() -> None:
    """Ask over TCP and get an answer."""
    address = ("127.0.0.1", TCP_PORT)
    with socket.create_server(address) as listener:
        listener.settimeout(SECONDS)
        # The kernel takes part in the handshake, nobody has to accept yet.
        with socket.create_connection(address, SECONDS) as client:
            client.sendall(b"question")
            conversation, _ = listener.accept()
            with conversation:
                conversation.settimeout(SECONDS)
                conversation.sendall(b"answer to " + conversation.recv(100))
            expect(client.recv(100), b"answer to question")


def talk_udp() -> None:
    """Ask over UDP, over IPv6; and send something that won't arrive."""
    with udp_socket() as server, udp_socket() as client:
        server.bind(("::1", UDP_PORT))
        client.connect(("::1", UDP_PORT))
        for data in (b"question", UNWANTED, b"another question"):
            client.send(data)
        for question in (b"question", b"another question"):
            received, address = server.recvfrom(100)
            expect(received, question)
            server.sendto(b"answer to " + received, address)
            expect(client.recv(100), b"answer to " + question)


def udp_socket() -> socket.socket:
    """Return a UDP socket that doesn't wait for ever."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.settimeout(SECONDS)
    return sock


def expect(received: bytes, expected: bytes) -> None:
    """Check what arrived."""
    if received != expected:
        raise RuntimeError(f"{expected!r} was sent, {received!r} has arrived")


def run(_: argparse.Namespace) -> bool:
    """Set up, talk, and print; returns False, as long as Ctrl-C doesn't interrupt it."""
    isolate()
    bring_loopback_up()
    print("In a network namespace of its own, with these rules:\n")
    add_rule(f"-A OUTPUT -p tcp -j NFQUEUE --queue-num {QUEUE}")
    add_rule(f"-t mangle -A OUTPUT -p udp -j MARK --set-mark {MARK:#x}", "ip6tables")
    add_rule(f"-A OUTPUT -p udp -j NFQUEUE --queue-num {QUEUE}", "ip6tables")
    add_rule(f"-A INPUT -p udp --dport {UDP_PORT} -j NFQUEUE --queue-num {QUEUE}", "ip6tables")
    decider = Decider()
    problems: list[Exception] = []

    def talk() -> None:
        try:
            talk_tcp()
            talk_udp()
        except Exception as error:  # noqa: BLE001 (the main thread shows it)
            problems.append(error)

    print("\nthese packets pass through the queue:\n")
    print(ROW.format(*HEADINGS))
    start = time.monotonic()
    with nfq.open() as handle:
        handle.create_queue(
            QUEUE, decider, mode=nfq.NFQNL_COPY_PACKET, flags=nfq.NFQA_CFG_F_UID_GID
        )
        talking = threading.Thread(target=talk, daemon=True)
        talking.start()
        while talking.is_alive():
            handle.process(timeout=0.02)
            while decider.rows:
                print(decider.rows.pop(0))
    took = time.monotonic() - start
    if problems:
        raise CommandError(f"the conversations failed: {problems[0]}")
    accepted, dropped = decider.verdicts[nfq.NF_ACCEPT], decider.verdicts[nfq.NF_DROP]
    print(
        f"\n{accepted + dropped} packets in {took * 1000:.0f} ms: {accepted} accepted, {dropped} "
        "dropped. Both conversations went well;\nthe rules of this machine were not touched."
    )
    return False
