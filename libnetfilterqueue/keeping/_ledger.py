# SPDX-License-Identifier: GPL-2.0-or-later
"""What one process leaves to the next: how often the queue was taken over in vain."""

import mmap
import os
import struct

RECORD = struct.Struct("=IB3x")  # take-overs since the last verdict; whether there was one since
ANSWERED = 4  # where the latter is
TAKEOVERS = 3  # with so many in vain, a packet is not repeated any more


class Ledger:
    """A record in memory that is kept, and passed on, beside the socket."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, RECORD.size)

    @staticmethod
    def create() -> int:
        """The descriptor of a new one."""
        descriptor = os.memfd_create("libnetfilterqueue", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, RECORD.size)
        return descriptor

    @property
    def answered(self) -> memoryview:
        """The byte that becomes 1 with the first verdict."""
        return memoryview(self._memory)[ANSWERED : ANSWERED + 1]

    def note_takeover(self) -> bool:
        """Notes a take-over; returns whether there were too many without a verdict in between."""
        takeovers, answered = RECORD.unpack_from(self._memory)
        takeovers = 1 if answered else min(takeovers + 1, TAKEOVERS + 1)
        RECORD.pack_into(self._memory, 0, takeovers, 0)
        return takeovers > TAKEOVERS
