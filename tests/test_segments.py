# SPDX-License-Identifier: GPL-2.0-or-later
"""New payloads of datagrams that are sent by one call (UDP_SEGMENT), in the queue one packet."""

import pytest
from kernel import KERNEL
from netns import Namespace
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as Layers
from segments import (
    MORE,
    REPLACED_SINCE,
    SEGMENT,
    V4,
    Rewriter,
    Route,
    datagrams,
    ethernet,
    lengthen,
    pieces,
    queue_of,
    renew,
    renewed,
    router,
    together,
)

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel

SENT = nfq.NFQA_SKB_GSO | nfq.NFQA_SKB_CSUMNOTREADY


def test_new_payload(route: Route) -> None:
    """Datagrams with a new payload of any length arrive, each byte as it should.

    Linux before 6.11 loses them, whatever the checksum is.
    """
    data = together(20)
    rewriter = Rewriter()
    arrived = []
    with queue_of(route, rewriter) as handle:
        arrived.append(datagrams(handle, route, data))
        rewriter.change = renew
        arrived.append(datagrams(handle, route, data))
        rewriter.change = lengthen(route)
        arrived.append(datagrams(handle, route, data))
    assert SENT in rewriter.infos
    sent = [data, renewed(data), data + MORE]
    assert arrived == [pieces(one) if KERNEL >= REPLACED_SINCE else [] for one in sent]


def test_before_another_chain(route: Route) -> None:
    """A new payload arrives from OUTPUT too, where the kernel does not know the device yet."""
    data = together(3)
    rewriter = Rewriter(renew)
    with queue_of(route, rewriter, "OUTPUT") as handle:
        arrived = datagrams(handle, route, data)
    sent = pieces(renewed(data))
    assert arrived == (sent if KERNEL >= REPLACED_SINCE else [])


def test_forwarded(netns: Namespace) -> None:
    """A new payload arrives through a router."""
    data = together(3)
    rewriter = Rewriter(renew)
    with router(netns) as route, queue_of(route, rewriter, "FORWARD") as handle:
        arrived = datagrams(handle, route, data)
    assert SENT in rewriter.infos
    sent = pieces(renewed(data))
    assert arrived == (sent if KERNEL >= REPLACED_SINCE else [])


@pytest.mark.parametrize(("left", "lost"), [(SEGMENT + 1, False), (SEGMENT, True), (100, True)])
def test_shorter(left: int, lost: bool) -> None:
    """A packet that is no longer than one segment after its change is dropped by the kernel."""

    def shorten(content: bytearray) -> None:
        if len(content) > 1000:
            del content[28 + left :]
            content[2:4] = len(content).to_bytes(2)
            content[24:26] = (8 + left).to_bytes(2)

    data = together(20)
    with ethernet(V4) as route, queue_of(route, Rewriter(shorten)) as handle:
        arrived = datagrams(handle, route, data)
    assert arrived == ([] if lost or KERNEL < REPLACED_SINCE else pieces(data[:left]))


@pytest.mark.parametrize("chain", ["PREROUTING", "INPUT"])
@pytest.mark.parametrize("gro", [True, False])
def test_on_the_way_in(route: Route, chain: str, gro: bool) -> None:
    """Datagrams with complete checksums reach only sockets with UDP_GRO, in one piece."""
    data = together(3)
    rewriter = Rewriter(renew, without=nfq.NFQA_SKB_GSO)
    with queue_of(route, rewriter, chain) as handle:
        arrived = datagrams(handle, route, data, gro=gro)
    assert SENT in rewriter.infos
    assert arrived == ([renewed(data)] if gro else [])


def test_started_on_the_way_in(route: Route) -> None:
    """A checksum that waits for segmentation is refused where that does not come any more."""
    refused: list[str] = []

    def callback(packet: nfq.NetfilterQueueData) -> None:
        content = bytearray(packet.payload)
        nfq.update_checksums(content, packet.skb_info)
        try:
            packet.accept(payload=content)
        except ValueError as error:
            refused.append(str(error))
            packet.accept()

    data = together(3)
    with queue_of(route, callback, "INPUT") as handle:
        assert datagrams(handle, route, data) == pieces(data)
    (message,) = refused
    assert "call update_checksums() without NFQA_SKB_GSO" in message


def sctp_in(network: Layers) -> bytes:
    return bytes(network / SCTP(sport=1, dport=2) / SCTPChunkData(data=b"data"))


@pytest.mark.parametrize(
    "content",
    [
        sctp_in(IP()),
        sctp_in(IPv6()),
        sctp_in(IP() / IP()),
        sctp_in(IP() / UDP(dport=5000) / VXLAN(flags=8) / Ether() / IPv6()),
    ],
    ids=["ipv4", "ipv6", "ipip", "vxlan"],
)
def test_sctp_in_one_piece(content: bytes) -> None:
    """Only old kernels queue SCTP in one piece, and some crash when it has a new payload."""
    kept: list[nfq.NetfilterQueueData] = []
    with FakeKernel() as kernel, kernel.open() as handle:
        handle.create_queue(1, kept.append, mode=nfq.NFQNL_COPY_PACKET, flags=nfq.NFQA_CFG_F_GSO)
        first, second = (kernel.enqueue(content, skb_info=int(info)) for info in (SENT, 1))
        handle.process()
        message = "payload: packet 1: SCTP of several segments can't be replaced"
        with pytest.raises(ValueError, match=message):
            kept[0].accept(payload=content)
        with pytest.raises(ValueError, match=message):
            kept[0].set_verdict(nfq.NF_ACCEPT, payload=b"of another kind")
        with pytest.raises(ValueError, match="SCTP of several segments"):
            nfq.update_checksums(bytearray(content), SENT)
        kept[0].accept()
        kept[1].accept(payload=content)
        handle.process()
        assert (first.passed, second.passed) == (True, True)
