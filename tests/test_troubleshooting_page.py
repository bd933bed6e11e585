# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/troubleshooting.md has the texts of errors as they are, and its symptoms their reasons."""

import re
from collections.abc import Callable

import pytest
from netns import UdpPair, iptables, queue_rule, without_net_admin
from pages import ROOT
from queues import Handle, Packet, accept, accepting, netlink_socket, process_until, receive

import libnetfilterqueue as nfq

HEADINGS = re.findall(r"(?m)^### (.*)$", (ROOT / "docs" / "troubleshooting.md").read_text())


def unprivileged(handle: Handle) -> None:
    with without_net_admin():
        handle.create_queue(2, accept)


def bound_elsewhere(handle: Handle) -> None:
    with nfq.open() as other:
        other.create_queue(2, accept)
        handle.create_queue(2, accept)


def unknown_flag(handle: Handle) -> None:
    handle.create_queue(2, accept, flags=1 << 20)


def coroutine(handle: Handle) -> None:
    async def callback(packet: Packet) -> None:
        packet.accept()

    handle.create_queue(2, callback)  # type: ignore[arg-type]


def overrun(handle: Handle) -> None:
    handle.create_queue(1, accept, rcvbuf=1)
    queue_rule(1)
    with UdpPair() as udp, netlink_socket(handle) as sock:
        udp.send(*[bytes(1000)] * 100)
        while True:
            sock.recv(66000)


def decided_twice(handle: Handle) -> None:
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    queue_rule(1)
    with UdpPair() as udp:
        udp.send(b"data")
        packet = receive(handle, packets)
    packet.accept()
    packet.drop()


def closed(handle: Handle) -> None:
    handle.close()
    handle.process()


def no_message(handle: Handle) -> None:
    handle.handle_packet(b"data")


@pytest.mark.parametrize(
    "provoke",
    [
        unprivileged,
        bound_elsewhere,
        unknown_flag,
        coroutine,
        overrun,
        decided_twice,
        closed,
        no_message,
    ],
)
def test_errors(handle: Handle, provoke: Callable[[Handle], None]) -> None:
    """Each piece of an error in one heading occurs in the error that people see."""
    with pytest.raises((OSError, ValueError, TypeError, RuntimeError)) as raised:
        provoke(handle)
    text = f"{type(raised.value).__name__}: {raised.value}"
    text = text.replace("another handle of this program", "another program")
    text = text.replace("number 2", "number 1")
    assert any(
        all(piece in text for piece in re.findall(r"`([^`]+)`", heading))
        for heading in HEADINGS
        if "`" in heading
    ), text


def test_other_kernels() -> None:
    """What only other kernels say is in the source as the page has it."""
    remedies = (ROOT / "ext" / "support" / "remedy.c").read_text()
    assert any("`the kernel may lack nfnetlink_queue`" in heading for heading in HEADINGS)
    assert '"the kernel may lack nfnetlink_queue, ' in remedies


@pytest.mark.parametrize(("tracked", "seen"), [(False, 0), (True, 1)])
def test_nat(handle: Handle, tracked: bool, seen: int) -> None:
    """A queue in a chain of `nat` gets packets only where connections are tracked."""
    queue_rule(1, table="nat")
    if tracked:
        iptables("-A INPUT -m conntrack --ctstate NEW")
    data: list[bytes] = []
    handle.create_queue(1, accepting(data))
    with UdpPair() as udp:
        udp.send(b"data")
        process_until(handle, lambda: len(data) == seen)
        assert udp.recv() == b"data"
    assert data == [b"data"] * seen
