# SPDX-License-Identifier: GPL-2.0-or-later
"""What newer kernels have, and what they limit, that no other test is about."""

import errno
import re
from pathlib import Path

import nft
import pytest
from kernel import KERNEL
from netns import QUEUED_PORT, UdpPair
from queues import Handle, accept
from test_kernel_page import PAGE

import libnetfilterqueue as nfq

CLASSID_SINCE = (6, 4)  # Linux that has NFQA_CGROUP_CLASSID, the latest attribute
LIMIT_SINCE = (6, 12)  # Linux whose table of waiting packets has a limit
POLICY_SINCE = (7, 1)  # Linux that checks flags before it reads them
LIMIT = 65_536
SENT = LIMIT + 500
UNKNOWN = 1 << 5
TYPES = Path("/sys/kernel/btf/nfnetlink_queue")  # of the module, with the names of its constants


def test_attributes(handle: Handle) -> None:
    """The page of what the kernel offers has each attribute that this one knows."""
    handle.create_queue(1, accept)  # loads the module
    name = re.compile(r"NFQA_(?!CFG_|VLAN_|UNSPEC)\w+")
    known = set(filter(name.fullmatch, TYPES.read_bytes().decode("latin-1").split("\0")))
    assert known <= set(name.findall(PAGE))
    assert ("NFQA_CGROUP_CLASSID" in known) == (KERNEL >= CLASSID_SINCE)


def test_unknown_flag(handle: Handle) -> None:
    """A flag that the kernel does not know is refused, by newer ones as a wrong argument."""
    with pytest.raises(OSError, match="create_queue") as refusal:
        handle.create_queue(1, accept, flags=UNKNOWN)
    known_by = errno.EINVAL if KERNEL >= POLICY_SINCE else errno.EOPNOTSUPP
    assert refusal.value.errno == known_by


def test_most_packets_that_wait(handle: Handle) -> None:
    """In newer kernels 65,536 packets wait at most, also in longer queues."""
    nft.rules(f"udp sport {QUEUED_PORT} queue num 1", hook="prerouting")
    mode = nfq.NFQNL_COPY_META
    handle.create_queue(1, accept, mode=mode, maxlen=2 * LIMIT, rcvbuf=1 << 27)
    with UdpPair() as udp:
        for _ in range(SENT):
            udp.send(b"")
        assert udp.arrivals() == []
    (status,) = nfq.queue_status()
    waiting = LIMIT if KERNEL >= LIMIT_SINCE else SENT
    assert (status.waiting, status.queue_dropped) == (waiting, SENT - waiting)
    assert status.user_dropped == 0
