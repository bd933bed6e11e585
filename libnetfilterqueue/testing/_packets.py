# SPDX-License-Identifier: GPL-2.0-or-later
"""A packet on the kernel's side of a queue, as tests see it."""

from typing import Generic, Self, TypeVar, overload

from libnetfilterqueue.constants import Verdict
from libnetfilterqueue.testing._messages import SentVerdict
from libnetfilterqueue.testing._skb import Skb
from libnetfilterqueue.testing._waiting import Waitable, Waiters
from libnetfilterqueue.tuples import Vlan

T = TypeVar("T")


class Live(Generic[T]):
    """An attribute that is read when the kernel has executed all that programs have sent."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, packet: None, owner: type) -> Self: ...

    @overload
    def __get__(self, packet: "KernelPacket", owner: type) -> T: ...

    def __get__(self, packet: "KernelPacket | None", owner: type) -> Self | T:
        if packet is None:
            return self
        packet._waiters.execute()
        value: T = getattr(packet._skb, self._name)
        return value


class KernelPacket(Waitable):
    """A packet on the kernel's side, which ``FakeKernel.enqueue()`` returns.

    Its attributes are up to date: the kernel first executes all verdicts that programs have sent.
    ``wait()`` waits in a thread or greenlet, and ``await`` in asyncio, until the packet passed or
    was dropped.

    >>> packet.accept(mark=7)
    >>> sent.passed, sent.mark
    (True, 7)
    """

    id: Live[int | None] = Live()
    """Its id in the last queue that it was in; ``None`` if it was in none."""
    number: Live[int] = Live()
    """The number of that queue, or of the first one that its rules name."""
    passed: Live[bool | None] = Live()
    """``True`` if it went on, ``False`` if it was dropped, ``None`` while it waits."""
    decided: Live[bool] = Live()
    """``True`` if it passed or was dropped because a program decided so."""
    defaulted: Live[bool] = Live()
    """``True`` if it passed or was dropped without a decision: ``why`` has the reason."""
    why: Live[str | None] = Live()
    """Why it was defaulted: its queue's default verdict, or the kernel; else ``None``."""
    verdicts: Live[tuple[SentVerdict, ...]] = Live()
    """All verdicts that programs gave it, in order; several if it was requeued or repeated."""
    payload: Live[bytes] = Live()
    """Its bytes from the network header on, as the verdicts have left them."""
    mark: Live[int] = Live()
    """Its mark, as the verdicts have left it."""
    priority: Live[int] = Live()
    """Its priority, as the verdicts have left it."""
    vlan: Live[Vlan | None] = Live()
    """Its VLAN tag, as the verdicts have left it; ``None`` if it has none."""
    l2_header: Live[bytes] = Live()
    """Its link-layer header, as the verdicts have left it."""
    ct_mark: Live[int | None] = Live()
    """Its connection's mark, as the verdicts have left it; ``None`` if it has no connection."""
    ct_labels: Live[bytes | None] = Live()
    """Its connection's labels, as the verdicts have left them; ``None`` if it has no connection."""

    def __init__(self, waiters: Waiters, skb: Skb) -> None:
        super().__init__(
            waiters,
            lambda: skb.passed is not None,
            f"a verdict on a packet of queue {skb.number}",
        )
        self._skb = skb

    @property
    def verdict(self) -> int | None:
        """The last verdict that a program gave it.

        It is a ``Verdict``, or what ``NF_QUEUE_NR()`` returns. It is ``None`` if there was none.
        Then the packet still waits, or the kernel decided: nobody listened, or the queue was full,
        or the queue ended.
        """
        verdicts = self.verdicts
        return verdicts[-1].verdict if verdicts else None

    def _told_why(self) -> str:
        return f": {self.why}" if self.defaulted else ""

    def __repr__(self) -> str:
        fate = {None: "waiting", True: "passed", False: "dropped"}[self.passed]
        verdict = self.verdict
        name = verdict.name if isinstance(verdict, Verdict) else verdict
        return (
            f"<KernelPacket {self.id} of queue {self.number}: {len(self.payload)} bytes, "
            f"mark {self.mark:#x}, verdict {name}, {fate}{self._told_why()}>"
        )
