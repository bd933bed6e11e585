# SPDX-License-Identifier: GPL-2.0-or-later
"""What one process leaves to the next: how often the queue was taken over in vain."""

import mmap
import os
import struct

RECORD = struct.Struct("=B3xI")  # whether a verdict was sent; take-overs in vain before that
TAKEOVERS = 3  # with so many in vain, a packet is not repeated any more


class Ledger:
    """A record in memory that is kept, and passed on, beside the socket."""

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, RECORD.size)
        """Its first byte becomes 1 with the first verdict."""

    @staticmethod
    def create() -> int:
        """The descriptor of a new one."""
        descriptor = os.memfd_create("libnetfilterqueue", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, RECORD.size)
        return descriptor

    def note_takeover(self) -> bool:
        """Notes a take-over; returns whether there were too many without a verdict in between."""
        answered, takeovers = RECORD.unpack_from(self.memory)
        takeovers = 1 if answered else min(takeovers + 1, TAKEOVERS + 1)
        RECORD.pack_into(self.memory, 0, 0, takeovers)
        return takeovers > TAKEOVERS
