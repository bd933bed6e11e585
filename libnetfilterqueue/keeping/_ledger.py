# SPDX-License-Identifier: GPL-2.0-or-later
"""What one process leaves to the next: how often the queue was taken over in vain."""

import mmap
import os
import struct

# Whether the process has sent a verdict, whether it was given a packet (the extension notes both),
# and whether it has taken over; take-overs in vain before it.
RECORD = struct.Struct("=???xI")
TAKEOVERS = 3  # with so many in vain, a packet is not repeated any more


class Ledger:
    """A record in memory that is kept, and passed on, beside the socket."""

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, RECORD.size)
        """Its first bytes are those of ``enum lnfq_record``."""

    @staticmethod
    def create() -> int:
        """The descriptor of a new one."""
        descriptor = os.memfd_create("libnetfilterqueue", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, RECORD.size)
        return descriptor

    def note_takeover(self) -> bool:
        """Notes a take-over; returns whether those before it were in vain, and too many.

        That is if a process was given packets, and has ended without a verdict. One that was given
        none has ended for another reason, and neither adds to their number nor ends it.
        """
        answered, received, taken_over, vain = RECORD.unpack_from(self.memory)
        vain = 0 if answered else vain + (received and taken_over)
        RECORD.pack_into(self.memory, 0, False, False, True, vain)
        return bool(vain >= TAKEOVERS)
