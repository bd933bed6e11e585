# SPDX-License-Identifier: GPL-2.0-or-later
"""New payloads of tunnels' packets that come whole, with their inner checksums not complete."""

from contextlib import AbstractContextManager

import pytest
from kernel import KERNEL
from segments import (
    MORE,
    REPLACED_SINCE,
    V4,
    V6,
    Rewriter,
    Route,
    datagrams,
    lengthen,
    pieces,
    queue_of,
    renew,
    renewed,
    stream,
    together,
    tunnel,
    tunnel_over_loopback,
)

import libnetfilterqueue as nfq

ENDS = "local {ours} remote {theirs}"
SENT = nfq.NFQA_SKB_GSO | nfq.NFQA_SKB_CSUMNOTREADY

# What `ip link add` is told, the outer and the inner family.
ETHERNET = {
    "vxlan": (f"vxlan id 5 dstport 4789 noudpcsum {ENDS}", V4, V4),
    "vxlan-checksum": (f"vxlan id 5 dstport 4789 udpcsum {ENDS}", V4, V6),
    "vxlan-port": (f"vxlan id 5 dstport 5000 noudpcsum {ENDS}", V4, V4),
    "vxlan-ipv6": (f"vxlan id 5 dstport 8472 {ENDS}", V6, V4),
    "vxlan-ipv6-none": (f"vxlan id 5 dstport 8472 udp6zerocsumtx udp6zerocsumrx {ENDS}", V6, V6),
    "geneve": ("geneve id 5 noudpcsum remote {theirs}", V4, V4),
    "geneve-checksum": ("geneve id 5 udpcsum remote {theirs}", V4, V6),
    "geneve-ipv6": ("geneve id 5 remote {theirs}", V6, V4),
    "gre": (f"gre {ENDS}", V4, V4),
    "gre-checksum": (f"gre csum key 7 {ENDS}", V4, V4),
    "gretap": (f"gretap csum {ENDS}", V4, V4),
    "ip6gre": (f"ip6gre csum {ENDS}", V6, V6),
    "ipip": (f"ipip {ENDS}", V4, V4),
    "6in4": (f"sit {ENDS}", V4, V6),
    "4in6": (f"ip6tnl mode any {ENDS}", V6, V4),
}
LOOPBACK = {
    "geneve": ("geneve id 5 udpcsum remote {theirs}", V4),
    "gre": (f"gre csum {ENDS}", V4),
    "ipip": (f"ipip {ENDS}", V4),
    "6in4": (f"sit {ENDS}", V6),
}


def check(way: AbstractContextManager[Route], kept: bool) -> None:
    """Unchanged, of the same and of another length, TCP and datagrams arrive, byte for byte.

    Datagrams that are sent by one call do where they are `kept`.
    """
    rewriter = Rewriter()
    data, few = together(100), together(20)
    sent_together = []
    with way as route, queue_of(route, rewriter) as handle:
        assert stream(handle, route, data) == data
        sent_together.append(datagrams(handle, route, few))
        rewriter.change = renew
        arrived = stream(handle, route, data)
        assert renewed(arrived) == renewed(data)
        assert arrived.count(b"new!") > 90  # where a packet ends within it, it stays old
        sent_together.append(datagrams(handle, route, few))
        assert datagrams(handle, route, b"old! and alone") == [b"new! and alone"]
        rewriter.change = lengthen(route)
        assert datagrams(handle, route, b"old! and alone") == [b"old! and alone" + MORE]
        sent_together.append(datagrams(handle, route, few))
    assert any(nfq.NFQA_SKB_CSUMNOTREADY & info for info in rewriter.infos)
    assert SENT in rewriter.infos
    right = [few, renewed(few), few + MORE]
    assert sent_together == [pieces(one) if kept else [] for one in right]


@pytest.mark.parametrize("name", ETHERNET)
def test_over_ethernet(name: str) -> None:
    """Changed packets arrive at a neighbour; before Linux 6.11 datagrams of one call are lost."""
    check(tunnel(*ETHERNET[name]), KERNEL >= REPLACED_SINCE)


@pytest.mark.parametrize("name", LOOPBACK)
def test_over_loopback(name: str) -> None:
    """Changed packets arrive over loopback, which leaves checksums in tunnels to the kernel."""
    check(tunnel_over_loopback(*LOOPBACK[name]), kept=True)
