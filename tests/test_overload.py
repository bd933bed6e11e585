# SPDX-License-Identifier: GPL-2.0-or-later
"""A flood that nobody can take: what is too much is counted, and nothing else comes of it.

On every loop that is in test_loops.py; what the kernel does with the first packets too many in
test_queue_options.py; a flood of millions is `./dev soak`.
"""

import pytest
from flood import Flood
from queues import Handle, Packet, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
ENOUGH = 300  # packets that are dispatched
MAXLEN = 10


@pytest.mark.parametrize("fail_open", [False, True], ids=["shut", "open"])
def test_kept_packets_fill_the_queue(handle: Handle, fail_open: bool) -> None:
    """Kept packets fill the queue; once they have their verdicts it takes as many again."""
    flood = Flood()
    kept: list[Packet] = []
    flags = nfq.NFQA_CFG_F_FAIL_OPEN if fail_open else 0
    handle.create_queue(1, kept.append, mode=COPY, maxlen=MAXLEN, flags=flags)
    with flood.running():
        for _ in range(ENOUGH // MAXLEN):
            process_until(handle, lambda: len(kept) == MAXLEN)
            before = flood.sent
            process_until(handle, lambda: flood.sent > before + 2 * MAXLEN)  # noqa: B023
            assert len(kept) == MAXLEN
            while kept:
                kept.pop().accept()
    process_until(handle, lambda: handle.process() == 0)
    for packet in kept:
        packet.accept()
    stats = handle.stats()
    assert stats.packets == stats.verdicts >= ENOUGH
    assert (stats.overruns, stats.verdict_errors) == (0, 0)
    assert flood.passed == (flood.sent if fail_open else stats.packets)
    flood.check_counters("queue")
