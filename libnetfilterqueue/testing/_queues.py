# SPDX-License-Identifier: GPL-2.0-or-later
"""The queues of the fake kernel: what net/netfilter/nfnetlink_queue.c does, without sockets.

The fake kernel's lock protects all of it.
"""

import contextlib
import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from libnetfilterqueue.constants import CopyMode, QueueFlag, Verdict
from libnetfilterqueue.testing import _messages as nl
from libnetfilterqueue.testing._attributes import Attributes
from libnetfilterqueue.testing._rules import walk
from libnetfilterqueue.testing._skb import Skb

COPY_RANGE_MAX = 0xFFFF - 4  # NFQNL_MAX_COPY_RANGE
MAXLEN = 1024  # NFQNL_QMAX_DEFAULT
FLAGS_END = 1 << 5  # NFQA_CFG_F_MAX
CMD_BIND, CMD_UNBIND, CMD_PF_BIND, CMD_PF_UNBIND = 1, 2, 3, 4
VERDICT_MASK = 0xFF
VERDICT_FLAG_QUEUE_BYPASS = 0x8000
PASSES = (Verdict.NF_ACCEPT, Verdict.NF_STOP)

Send = Callable[[int, bytes], bool]


class Refused(Exception):  # noqa: N818 (it is an answer)
    """What a program asks is refused."""

    def __init__(self, error: int) -> None:
        super().__init__(error)
        self.error = error


class KernelQueue(NamedTuple):
    """A bound queue of the fake kernel. The counters count since it was bound.

    >>> kernel.queues[1].waiting
    2
    """

    number: int
    """The queue's number."""
    portid: int
    """The netlink port id of the handle that has bound it: 1 for the first that was opened."""
    waiting: int
    """Packets that wait for their verdict."""
    copy_mode: CopyMode
    """How much of a packet it delivers."""
    copy_range: int
    """How many bytes of a packet it delivers at most."""
    maxlen: int
    """Packets that may wait."""
    flags: QueueFlag
    """The flags that are set."""
    queue_dropped: int
    """Packets dropped because as many waited as maxlen allows."""
    user_dropped: int
    """Packets dropped because the handle's receive buffer was full."""
    id_sequence: int
    """The id of the last packet."""


class Refusal(NamedTuple):
    """A verdict that the fake kernel refused. An error message reports it to the program.

    >>> kernel.refusals
    []
    """

    number: int
    """The queue's number."""
    id: int | None
    """The packet's id; of a batch verdict, the last one. ``None`` if the queue was the reason."""
    error: int
    """``ENOENT`` for a packet that doesn't wait, ``ENODEV`` for a queue that is not bound,
    ``EPERM`` for one of another handle and without ``net_admin``, ``EINVAL`` for no valid verdict.
    """

    def __str__(self) -> str:
        on = "" if self.id is None else f" on packet {self.id}"
        name = errno.errorcode.get(self.error, self.error)
        return f"a verdict{on} of queue {self.number}: {name} ({os.strerror(self.error)})"


@dataclass
class Instance:
    """A bound queue: struct nfqnl_instance."""

    number: int
    portid: int
    id_sequence: int
    copy_mode: CopyMode = CopyMode.NFQNL_COPY_NONE
    copy_range: int = COPY_RANGE_MAX
    maxlen: int = MAXLEN
    flags: int = 0
    queue_dropped: int = 0
    user_dropped: int = 0
    waiting: dict[int, Skb] = field(default_factory=dict)  # oldest first

    def snapshot(self) -> KernelQueue:
        """What is told of it."""
        return KernelQueue(
            self.number,
            self.portid,
            len(self.waiting),
            self.copy_mode,
            self.copy_range,
            self.maxlen,
            QueueFlag(self.flags),
            self.queue_dropped,
            self.user_dropped,
            self.id_sequence,
        )

    def set(self, attributes: dict[int, bytes]) -> None:
        """What a configuration request says besides its command."""
        if nl.NFQA_CFG_PARAMS in attributes:
            copy_range, copy_mode = struct.unpack_from("!IB", attributes[nl.NFQA_CFG_PARAMS])
            self._set_mode(copy_mode, copy_range)
        maxlen = nl.read_u32(attributes, nl.NFQA_CFG_QUEUE_MAXLEN)
        self.maxlen = self.maxlen if maxlen is None else maxlen
        mask = nl.read_u32(attributes, nl.NFQA_CFG_MASK) or 0
        self.flags = self.flags & ~mask | (nl.read_u32(attributes, nl.NFQA_CFG_FLAGS) or 0) & mask

    def _set_mode(self, copy_mode: int, copy_range: int) -> None:
        """Modes that there aren't are ignored."""
        if copy_mode == CopyMode.NFQNL_COPY_PACKET:
            self.copy_range = min(copy_range or COPY_RANGE_MAX, COPY_RANGE_MAX)
        elif copy_mode in (CopyMode.NFQNL_COPY_NONE, CopyMode.NFQNL_COPY_META):
            self.copy_range = 0
        else:
            return
        self.copy_mode = CopyMode(copy_mode)

    def message(self, packet: Skb) -> bytes:
        """The packet under its new id, as it is sent to the program."""
        whole = self.copy_mode == CopyMode.NFQNL_COPY_PACKET
        copied = self.copy_range if whole else None
        return packet.message(self.id_sequence, self.number, copied, self.flags)


class Queues:
    """All queues of a network namespace."""

    def __init__(self, send: Send, first_id: int) -> None:
        self.bound: dict[int, Instance] = {}
        self.refusals: list[Refusal] = []
        self.left: list[Skb] = []  # which had no verdict when their queue ended
        self.unbound: list[Skb] = []  # which came to a number that nobody had bound
        self._send = send
        self._first_id = first_id

    def attach(self, portid: int) -> None:
        """A handle was opened."""

    def close(self) -> None:
        """Nothing will come any more."""

    # Configuration

    def configure(self, portid: int, request: bytes) -> None:
        """NFQNL_MSG_CONFIG."""
        number = nl.Header.read(request).number
        attributes = nl.attributes_of(request)
        command = attributes.get(nl.NFQA_CFG_CMD, b"\0")[0]
        if command in (CMD_PF_BIND, CMD_PF_UNBIND):
            return  # obsolete
        self._check_flags(attributes)
        queue = self.bound.get(number)
        if queue is not None and queue.portid != portid:
            raise Refused(errno.EPERM)
        if command == CMD_BIND:
            if queue is not None:
                raise Refused(errno.EBUSY)
            queue = self.bound[number] = Instance(number, portid, self._before_first_id())
        if queue is None:
            raise Refused(errno.ENODEV)
        if command == CMD_UNBIND:
            self.unbind(queue)
        else:
            queue.set(attributes)

    @staticmethod
    def _check_flags(attributes: dict[int, bytes]) -> None:
        flags = nl.read_u32(attributes, nl.NFQA_CFG_FLAGS)
        if flags is not None and nl.NFQA_CFG_MASK not in attributes:
            raise Refused(errno.EINVAL)
        if flags is not None and flags >= FLAGS_END:
            raise Refused(errno.EOPNOTSUPP)

    def _before_first_id(self) -> int:
        return (self._first_id - 1) & 0xFFFFFFFF

    def unbind(self, queue: Instance) -> int:
        """Drops what waits, and frees the number."""
        del self.bound[queue.number]
        for packet in queue.waiting.values():
            self._leave(packet, False, nl.DEFAULTS[nl.UNBOUND])
        return 0

    def _leave(self, packet: Skb, passed: bool, why: str | None) -> None:
        """A packet's queue ends, and nobody has given it a verdict."""
        packet.settle(passed, why)
        self.left.append(packet)

    def release(self, portid: int) -> None:
        """A handle has ended, and so have its queues."""
        for queue in [queue for queue in self.bound.values() if queue.portid == portid]:
            self.unbind(queue)

    # Packets

    def take_over(self, captured: Attributes) -> Attributes:
        """What packets have of those that were captured."""
        return captured

    def check(self, packet: Skb) -> None:
        """Raises ValueError for a packet that there can't be in this kernel."""

    def apply_rules(self, packet: Skb) -> None:
        """The packet comes to its rules."""
        target = walk(packet.rules, packet)
        if target.number is None:
            packet.settle(True, "no rule sends it to a queue")
        else:
            self._queue(packet, target.number, target.bypass)

    def _repeat(self, packet: Skb) -> None:
        """The packet comes to its rules again."""
        self.apply_rules(packet)

    def _queue(self, packet: Skb, number: int, bypass: bool) -> None:
        """nf_queue(): the packet goes to a queue; where it can't it is dropped, or passes."""
        packet.number = number
        packet.id = None
        queue = self.bound.get(number)
        if queue is None:
            packet.settle(bypass, f"nobody has bound queue {number}")
            self.unbound.append(packet)
        elif queue.copy_mode == CopyMode.NFQNL_COPY_NONE:
            packet.settle(False, f"queue {number} has no copy mode")
        else:
            self._enqueue(queue, packet)

    def _enqueue(self, queue: Instance, packet: Skb) -> None:
        fail_open = bool(queue.flags & QueueFlag.NFQA_CFG_F_FAIL_OPEN)
        if len(queue.waiting) >= queue.maxlen:
            packet.settle(fail_open, f"queue {queue.number} was full: maxlen is {queue.maxlen}")
            queue.queue_dropped += not fail_open
            return
        self._deliver(queue, packet)

    def _deliver(self, queue: Instance, packet: Skb) -> None:
        """The queue has room for it."""
        fail_open = bool(queue.flags & QueueFlag.NFQA_CFG_F_FAIL_OPEN)
        queue.id_sequence = (queue.id_sequence + 1) & 0xFFFFFFFF
        if not self._send(queue.portid, queue.message(packet)):
            packet.settle(fail_open, "the handle's receive buffer was full")
            queue.user_dropped += not fail_open
            return
        packet.id = queue.id_sequence
        packet.passed = packet.why = None
        queue.waiting[queue.id_sequence] = packet

    def forget(self, packet: Skb) -> None:
        """Drops a packet that waits."""
        queue = self.bound.get(packet.number)
        if queue is not None and queue.waiting.get(packet.id or 0) is packet:
            del queue.waiting[packet.id or 0]
            packet.settle(False, "flush() dropped it")

    # Verdicts

    def decide(self, portid: int, request: bytes) -> None:
        """NFQNL_MSG_VERDICT and NFQNL_MSG_VERDICT_BATCH."""
        number = nl.Header.read(request).number
        packet_id = None
        try:
            queue = self._find(portid, number)
            verdict = nl.SentVerdict.read(request)
            packet_id = verdict.packet_id
            decide = self._decide_batch if verdict.batch else self._decide_one
            decide(queue, verdict, request)
        except ValueError:
            self._note_refusal(request, None, errno.EINVAL)
            raise Refused(errno.EINVAL) from None
        except Refused as refused:
            self._note_refusal(request, packet_id, refused.error)
            raise

    def _note_refusal(self, request: bytes, packet_id: int | None, error: int) -> None:
        if nl.read_reason(request) != nl.UNBOUND:  # that may find nothing
            number = nl.Header.read(request).number
            self.refusals.append(Refusal(number, packet_id, error))

    def refuse(self, request: bytes, error: int) -> None:
        """A request is refused before anybody looks at what is in it."""
        if nl.Header.read(request).kind in (nl.MSG_VERDICT, nl.MSG_VERDICT_BATCH):
            with contextlib.suppress(ValueError):
                self._note_refusal(request, nl.SentVerdict.read(request).packet_id, error)

    def _find(self, portid: int, number: int) -> Instance:
        """A handle's queue."""
        queue = self.bound.get(number)
        if queue is None:
            raise Refused(errno.ENODEV)
        if queue.portid != portid:
            raise Refused(errno.EPERM)
        return queue

    def _decide_one(self, queue: Instance, verdict: nl.SentVerdict, request: bytes) -> None:
        packet = queue.waiting.pop(verdict.packet_id, None)
        if packet is None:
            raise Refused(errno.ENOENT)
        if not packet.take(verdict):
            packet.settle(False, "the kernel refused its verdict")
            raise Refused(errno.EINVAL)
        self._reinject(packet, verdict)

    def _decide_batch(self, queue: Instance, verdict: nl.SentVerdict, request: bytes) -> None:
        ids = up_to(verdict.packet_id, queue.waiting)
        if not ids:
            raise Refused(errno.ENOENT)
        # All of them are off the queue before the first goes on, and maybe comes back to it.
        for packet in [queue.waiting.pop(packet_id) for packet_id in ids]:
            packet.take(verdict)
            self._reinject(packet, verdict)

    def _reinject(self, packet: Skb, sent: nl.SentVerdict) -> None:
        verdict = sent.verdict
        match verdict & VERDICT_MASK:
            case Verdict.NF_REPEAT:
                self._repeat(packet)
            case Verdict.NF_QUEUE:
                self._queue(packet, verdict >> 16, bool(verdict & VERDICT_FLAG_QUEUE_BYPASS))
            case kind if sent.default == nl.DEFAULTS[nl.UNBOUND]:
                self._leave(packet, kind in PASSES, sent.default)
            case kind:
                packet.settle(kind in PASSES, sent.default)


def up_to(last: int, ids: dict[int, Skb]) -> list[int]:
    """The ids that are not newer than the last one; they wrap after 32 bits."""
    found = []
    for packet_id in ids:
        if 0 < (packet_id - last) & 0xFFFFFFFF < 1 << 31:
            break
        found.append(packet_id)
    return found
