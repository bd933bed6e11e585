# SPDX-License-Identifier: GPL-2.0-or-later
"""Security context, priority and class of packets, and verdicts that set the priority."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import nft
import pytest
from kernel import KERNEL
from netns import UdpPair, iptables, queue_rule, run, write
from queues import Handle, Packet, keeping, receive

import libnetfilterqueue as nfq

CLASS = 0x00010002  # 1:2
CLASSID_SINCE = (6, 4)  # Linux that tells it


@pytest.fixture
def udp() -> Iterator[UdpPair]:
    """Datagrams over loopback that pass through queue 1 last of all on their way out."""
    queue_rule(1, chain="POSTROUTING", table="mangle")
    with UdpPair() as pair:
        yield pair


@pytest.fixture
def packets(handle: Handle) -> list[Packet]:
    """The packets of queue 1, with their security contexts."""
    return keeping(handle, flags=nfq.NFQA_CFG_F_SECCTX)


def send(handle: Handle, packets: list[Packet], udp: UdpPair) -> Packet:
    """The next datagram's packet."""
    udp.send(b"data")
    return receive(handle, packets)


# Security context


def label(context: str) -> None:
    """Gives what goes out a context that the kernel's security module knows."""
    iptables(f"-t security -A OUTPUT -p udp -j SECMARK --selctx {context}")


def test_secctx(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The context is the one that a rule has set, here AppArmor's name for no profile."""
    label("unconfined")
    assert send(handle, packets, udp).secctx == b"unconfined"


def test_secctx_by_nft(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The context is also the one that a rule of nftables has set."""
    nft.rules('meta secmark set "name"', head='secmark name { "unconfined" }')
    assert send(handle, packets, udp).secctx == b"unconfined"


def test_no_secctx(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """A packet that no rule has labelled has no context."""
    assert send(handle, packets, udp).secctx is None


def test_secctx_without_the_flag(handle: Handle, udp: UdpPair) -> None:
    """Without the queue's flag the context is unknown."""
    label("unconfined")
    assert send(handle, keeping(handle), udp).secctx is None


# Priority


@pytest.mark.parametrize("priority", [1, 6, CLASS, 0xFFFFFFFF])
def test_priority_of_a_rule(
    handle: Handle, packets: list[Packet], udp: UdpPair, priority: int
) -> None:
    """The priority is the one that a rule has set."""
    major, minor = priority >> 16, priority & 0xFFFF
    iptables(f"-t mangle -I POSTROUTING -p udp -j CLASSIFY --set-class {major:x}:{minor:x}")
    assert send(handle, packets, udp).priority == priority


def test_priority_of_a_socket(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The priority is the one that the sender has asked for."""
    udp.sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 5)
    assert send(handle, packets, udp).priority == 5


def test_no_priority(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Without a priority it is 0."""
    assert send(handle, packets, udp).priority == 0


@pytest.mark.parametrize("priority", [0, 1, CLASS, 0xFFFFFFFF])
def test_verdict_with_a_priority(
    handle: Handle, packets: list[Packet], udp: UdpPair, priority: int
) -> None:
    """A verdict sets the priority, for rules, and for queues that the packet comes to later."""
    queue_rule(1, chain="PREROUTING", table="mangle")
    counter = nft.Counter(f"meta priority {priority:#x}", hook="input")
    udp.sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 5)
    send(handle, packets, udp).set_verdict(nfq.NF_ACCEPT, priority=priority)
    packet = receive(handle, packets)
    assert packet.hook is nfq.NF_INET_PRE_ROUTING
    assert packet.priority == priority
    packet.accept()
    assert udp.recv() == b"data"
    assert counter.packets == 1


def test_verdict_without_a_priority(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """A verdict that names no priority leaves it."""
    queue_rule(1, chain="PREROUTING", table="mangle")
    udp.sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 5)
    send(handle, packets, udp).accept()
    assert receive(handle, packets).priority == 5


def test_batch_verdict_with_a_priority(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """A batch verdict sets the priority of all its packets, and of no other."""
    queue_rule(1, chain="PREROUTING", table="mangle")
    udp.send(b"data", b"data", b"data")
    first, second, third = (receive(handle, packets) for _ in range(3))
    first.queue.set_verdict_batch(nfq.NF_ACCEPT, second.id, priority=CLASS)
    third.accept()
    assert [receive(handle, packets).priority for _ in range(3)] == [CLASS, CLASS, 0]


# Class


@contextlib.contextmanager
def in_class(path: Path, classid: int) -> Iterator[None]:
    """We are in a control group of the class, in a hierarchy mounted there."""
    run(f"mount -t cgroup -o net_cls none {path}")
    group = path / "group"
    group.mkdir()
    try:
        write(f"{group}/net_cls.classid", str(classid))
        write(f"{group}/cgroup.procs", str(os.getpid()))
        yield
    finally:
        write(f"{path}/cgroup.procs", str(os.getpid()))
        group.rmdir()
        run(f"umount {path}")


@pytest.mark.parametrize("classid", [1, CLASS, 0xFFFFFFFF])
def test_cgroup_classid(
    handle: Handle, packets: list[Packet], tmp_path: Path, classid: int
) -> None:
    """The class is that of the control group which the sender was opened in, on new kernels."""
    with in_class(tmp_path, classid):
        queue_rule(1)
        with UdpPair() as udp:
            packet = send(handle, packets, udp)
    assert packet.cgroup_classid == (classid if KERNEL >= CLASSID_SINCE else 0)


def test_no_cgroup_classid(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Without a control group's class it is 0."""
    assert send(handle, packets, udp).cgroup_classid == 0
