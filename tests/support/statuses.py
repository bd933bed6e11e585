# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's table of queues, as far as tests may read it."""

from pathlib import Path

import libnetfilterqueue as nfq


def visible() -> bool:
    """Whether this process may read the table: as real root."""
    try:
        Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_bytes()
    except PermissionError:
        return False
    return True


def status() -> dict[int, nfq.QueueStatus]:
    """The table by number, or, where the kernel hides it, that it says so."""
    return {line.queue: line for line in nfq.queue_status()}
