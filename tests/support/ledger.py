# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel has of queued packets: which wait for a verdict, and which verdict is right."""

import struct
from dataclasses import dataclass, field

from played_kernel import (
    MSG_CONFIG,
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    NFQA_MARK,
    NFQA_PAYLOAD,
    NFQA_VERDICT_HDR,
    SentVerdict,
    attributes_of,
)

import libnetfilterqueue as nfq

NFQA_CFG_CMD = 1
NFQNL_CFG_CMD_UNBIND = 2


@dataclass(frozen=True)
class Due:
    """A verdict, with what it changes of its packet."""

    verdict: int
    mark: int | None = None
    payload: bytes | None = None

    @property
    def attributes(self) -> dict[int, bytes]:
        """The attributes that go with it."""
        found = {}
        if self.mark is not None:
            found[NFQA_MARK] = struct.pack("!I", self.mark)
        if self.payload is not None:
            found[NFQA_PAYLOAD] = self.payload
        return found


@dataclass(eq=False)
class Waiting:
    """A packet that the kernel has queued."""

    number: int
    packet_id: int
    due: Due | None = None  # None as long as it must not get any
    answered: bool = False


def newer(packet_id: int, than: int) -> bool:
    """Whether the kernel counts one id as newer than another."""
    return 0 < (packet_id - than) & 0xFFFFFFFF < 0x80000000


@dataclass
class Ledger:
    """The packets that wait, in their order; each gets what is due, once."""

    waiting: list[Waiting] = field(default_factory=list)

    def queue(self, number: int, packet_id: int) -> Waiting:
        entry = Waiting(number, packet_id)
        self.waiting.append(entry)
        return entry

    def read(self, messages: list[bytes]) -> None:
        """Executes what a handle has sent."""
        for data in messages:
            (kind,) = struct.unpack_from("=H", data, 4)
            if kind == MSG_CONFIG:
                self._configure(data)
            elif kind in (MSG_VERDICT, MSG_VERDICT_BATCH):
                sent = SentVerdict.read(data)
                attributes = attributes_of(data)
                del attributes[NFQA_VERDICT_HDR]
                if kind == MSG_VERDICT:
                    self._answer(self._find(sent), sent, attributes)
                else:
                    self._answer_batch(sent, attributes)

    def _configure(self, data: bytes) -> None:
        """What an unbinding leaves behind would be dropped, whatever its queue's default is."""
        command = attributes_of(data).get(NFQA_CFG_CMD, b"\0")[0]
        (number,) = struct.unpack_from("!H", data, 18)
        if command == NFQNL_CFG_CMD_UNBIND:
            assert not [entry for entry in self.waiting if entry.number == number]

    def _find(self, sent: SentVerdict) -> Waiting:
        for entry in self.waiting:
            if (entry.number, entry.packet_id) == (sent.number, sent.packet_id) and entry.due:
                return entry
        raise AssertionError(f"nobody waits for {sent}")

    def _answer_batch(self, sent: SentVerdict, attributes: dict[int, bytes]) -> None:
        """All that was queued up to that id. A test may queue the same one again."""
        for entry in list(self.waiting):
            if entry.number == sent.number and not newer(entry.packet_id, sent.packet_id):
                self._answer(entry, sent, attributes)
                if entry.packet_id == sent.packet_id:
                    break

    def _answer(self, entry: Waiting, sent: SentVerdict, attributes: dict[int, bytes]) -> None:
        assert entry.due is not None, f"{entry} gets {sent}"
        verdict = nfq.NF_DROP if entry.due.verdict == nfq.NF_STOLEN else entry.due.verdict
        assert (verdict, entry.due.attributes) == (sent.verdict, attributes), f"{entry}: {sent}"
        entry.answered = True
        self.waiting.remove(entry)
