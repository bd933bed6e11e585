# SPDX-License-Identifier: GPL-2.0-or-later
"""SCTP, whose checksum is not the Internet's."""

from kernel import KERNEL
from netns import run
from queues import Packet
from segments import (
    SCTP,
    V4,
    Rewriter,
    Route,
    ethernet,
    queue_of,
    renew,
    renewed,
    stream,
    together,
)

import libnetfilterqueue as nfq

ALONE_SINCE = (6, 12)  # Linux that delivers SCTP as its segments with NFQA_CFG_F_GSO too


class Replacing(Rewriter):
    """Replaces what can be replaced, and lets the rest pass."""

    refused = 0

    def __call__(self, packet: Packet) -> None:
        try:
            super().__call__(packet)
        except ValueError:
            self.refused += 1
            packet.accept()


def test_new_payload(route: Route) -> None:
    """An unchanged payload and one of the same length arrive, byte for byte."""
    rewriter = Replacing()
    data = b"old! " * 100  # a packet of its own
    with queue_of(route, rewriter) as handle:
        assert stream(handle, route, data, SCTP) == data
        rewriter.change = renew
        assert stream(handle, route, data, SCTP) == renewed(data)
    assert nfq.NFQA_SKB_CSUMNOTREADY in rewriter.infos


def test_segments(route: Route) -> None:
    """Large messages come as segments; before Linux 6.12 in one piece, which can't be replaced."""
    rewriter = Replacing()
    data = together(30)
    with queue_of(route, rewriter) as handle:
        assert stream(handle, route, data, SCTP) == data
    whole = nfq.NFQA_SKB_GSO | nfq.NFQA_SKB_CSUMNOTREADY in rewriter.infos
    assert (whole, rewriter.refused > 0) == (
        (False, False) if KERNEL >= ALONE_SINCE else (True, True)
    )


def test_device_that_cuts_nothing() -> None:
    """A kernel that has to cut the packet up itself does not crash."""
    rewriter = Replacing()
    data = together(30)
    with ethernet(V4) as route:
        with route.left:
            run("ethtool -K eth0 tx-sctp-segmentation off")
        with queue_of(route, rewriter) as handle:
            assert stream(handle, route, data, SCTP) == data
