# SPDX-License-Identifier: GPL-2.0-or-later
"""The fake kernel."""

from libnetfilterqueue.testing._kernel import Kernel
from libnetfilterqueue.testing._queues import Queues


class FakeKernel(Kernel):
    """A kernel with queues and no firewall, which needs no privileges; see ``Kernel``.

    Args:
        first_id: The id of the first packet of each binding, 1 to ``2**32 - 1``. With one near the
            end, ids wrap as they do in a kernel that has run for long.

    >>> with FakeKernel() as kernel, kernel.open() as handle:
    ...     queue = handle.create_queue(1, nfq.Packet.accept)
    ...     sent = kernel.enqueue(b"data")
    ...     handle.process()
    ...     sent.passed
    1
    True
    """

    name = "fake"

    def __init__(self, *, first_id: int = 1) -> None:
        if not 1 <= first_id <= 0xFFFFFFFF:
            raise ValueError(f"FakeKernel(): first_id must be from 1 to 2**32 - 1, not {first_id}")
        super().__init__(lambda send: Queues(send, first_id))
