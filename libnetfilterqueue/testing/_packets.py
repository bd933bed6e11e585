# SPDX-License-Identifier: GPL-2.0-or-later
"""A packet on the kernel's side of a queue."""

import socket
import struct
from typing import TYPE_CHECKING, Generic, Self, TypeVar, overload

from libnetfilterqueue.constants import Hook, QueueFlag, SkbInfo, Verdict
from libnetfilterqueue.testing import _messages as nl
from libnetfilterqueue.testing._attributes import Attributes, Rule
from libnetfilterqueue.testing._waiting import Waitable
from libnetfilterqueue.tuples import Vlan

if TYPE_CHECKING:
    from libnetfilterqueue.testing._kernel import FakeKernel

IP_CT_NEW = 2
T = TypeVar("T")


class Live(Generic[T]):
    """An attribute that is read when the kernel has executed all that programs have sent."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    @overload
    def __get__(self, packet: None, owner: type) -> Self: ...

    @overload
    def __get__(self, packet: "KernelPacket", owner: type) -> T: ...

    def __get__(self, packet: "KernelPacket | None", owner: type) -> Self | T:
        if packet is None:
            return self
        packet._kernel._execute()
        value: T = getattr(packet, self._name)
        return value


class KernelPacket(Waitable):
    """A packet on the kernel's side, which FakeKernel.enqueue() returns.

    What it says is up to date: all verdicts that programs have sent before are executed. `wait()`
    waits in a thread or greenlet, and `await` in asyncio, until the packet passed or was dropped.
    """

    id: Live[int | None] = Live()
    """Its id in the last queue that it was in; None if it was in none."""
    number: Live[int] = Live()
    """The number of that queue, or of the one that the rule named."""
    passed: Live[bool | None] = Live()
    """True if it went on, False if it was dropped, None while it waits for a verdict."""
    verdicts: Live[tuple[nl.SentVerdict, ...]] = Live()
    """All verdicts that programs gave it, in order; several if it was requeued or repeated."""
    payload: Live[bytes] = Live()
    """Its bytes from the network header on, as the verdicts have left them."""
    mark: Live[int] = Live()
    """Its mark, as the verdicts have left it."""
    priority: Live[int] = Live()
    """Its priority, as the verdicts have left it."""
    vlan: Live[Vlan | None] = Live()
    """Its VLAN tag, as the verdicts have left it; None if it has none."""
    l2_header: Live[bytes] = Live()
    """Its link-layer header, as the verdicts have left it."""
    ct_mark: Live[int | None] = Live()
    """Its connection's mark, as the verdicts have left it; None if it has no connection."""
    ct_labels: Live[bytes | None] = Live()
    """Its connection's labels, as the verdicts have left them; None if it has no connection."""

    def __init__(
        self,
        kernel: "FakeKernel",
        payload: bytes,
        rule: Rule,
        attributes: Attributes,
    ) -> None:
        self._attributes: Attributes = attributes
        self._rule = rule
        self._id: int | None = None
        self._number = rule.number
        self._passed: bool | None = None
        self._verdicts: tuple[nl.SentVerdict, ...] = ()
        self._payload = payload
        self._mark = attributes.get("mark", 0)
        self._priority = attributes.get("priority", 0)
        self._vlan = Vlan(*attributes["vlan"]) if "vlan" in attributes else None
        self._l2_header = attributes.get("l2_header", b"")
        conntrack = attributes.get("conntrack")
        self._ct_mark = None if conntrack is None else conntrack.get("mark", 0)
        self._ct_labels = None if conntrack is None else conntrack.get("labels", bytes(16))
        self._family, self._hw_protocol = self._protocols()
        super().__init__(
            kernel,
            lambda: self._passed is not None,
            f"a verdict on a packet of queue {rule.number}",
        )

    @property
    def verdict(self) -> int | None:
        """The last verdict that a program gave it: a Verdict, or what NF_QUEUE_NR() returns.

        None without one: it still waits, or the kernel decided (nobody listened, or the queue was
        full, or ended).
        """
        verdicts = self.verdicts
        return verdicts[-1].verdict if verdicts else None

    def __repr__(self) -> str:
        fate = {None: "waiting", True: "passed", False: "dropped"}[self.passed]
        verdict = self.verdict
        name = verdict.name if isinstance(verdict, Verdict) else verdict
        return (
            f"<KernelPacket {self.id} of queue {self.number}: {len(self.payload)} bytes, "
            f"mark {self.mark:#x}, verdict {name}, {fate}>"
        )

    # What follows is the kernel's, with its lock.

    def _protocols(self) -> tuple[int, int]:
        """Family and EtherType."""
        version = self._payload[0] >> 4 if self._payload else 4
        family, hw_protocol = (
            (socket.AF_INET6, 0x86DD) if version == 6 else (socket.AF_INET, 0x0800)
        )
        if self._vlan is not None or self._l2_header:
            family = socket.AF_BRIDGE
        given = self._attributes
        return given.get("family", int(family)), given.get("hw_protocol", hw_protocol)

    def _matches(self) -> bool:
        """Whether the rule sends it to its queue."""
        return self._rule.match_mark in (None, self._mark)

    @property
    def _on_bridge(self) -> bool:
        return self._family == socket.AF_BRIDGE

    def _message(self, packet_id: int, number: int, copied: int | None, flags: int) -> bytes:
        """What the queue sends: `copied` bytes of the payload at most, None for its attributes."""
        attributes = [value for flag, value in self._describe() if flag & ~flags == 0]
        payload = None
        length = max(self._attributes.get("original_length", 0), len(self._payload))
        if copied is not None:
            payload = self._payload[:copied] or None
            if length > len(payload or b""):
                attributes.append(nl.attribute(nl.NFQA_CAP_LEN, struct.pack("!I", length)))
        info = self._attributes.get("skb_info", 0)
        if not flags & QueueFlag.NFQA_CFG_F_GSO:
            info &= SkbInfo.NFQA_SKB_CSUM_NOTVERIFIED
        if info:
            attributes.append(nl.attribute(nl.NFQA_SKB_INFO, struct.pack("!I", info)))
        return nl.packet_message(
            packet_id,
            payload,
            *attributes,
            number=number,
            family=self._family,
            hw_protocol=self._hw_protocol,
            hook=self._attributes.get("hook", Hook.NF_INET_LOCAL_OUT),
        )

    def _describe(self) -> list[tuple[int, bytes]]:
        """Its attributes in the kernel's order, each with the flag that it takes, or 0."""
        given = self._attributes
        uid_gid = QueueFlag.NFQA_CFG_F_UID_GID
        numbers = [
            (0, nl.NFQA_IFINDEX_INDEV, given.get("indev", 0)),
            (0, nl.NFQA_IFINDEX_PHYSINDEV, given.get("physindev", 0)),
            (0, nl.NFQA_IFINDEX_OUTDEV, given.get("outdev", 0)),
            (0, nl.NFQA_IFINDEX_PHYSOUTDEV, given.get("physoutdev", 0)),
            (0, nl.NFQA_MARK, self._mark),
            (0, nl.NFQA_PRIORITY, self._priority),
            (0, nl.NFQA_CGROUP_CLASSID, given.get("cgroup_classid", 0)),
            (uid_gid, nl.NFQA_UID, given.get("uid")),
            (uid_gid, nl.NFQA_GID, given.get("gid")),
        ]
        described = [
            (flag, nl.attribute(kind, struct.pack("!I", number)))
            for flag, kind, number in numbers
            if number or (number == 0 and flag)
        ]
        if hw_addr := given.get("hw_addr", b""):
            value = struct.pack("!HH8s", len(hw_addr), 0, hw_addr)
            described.append((0, nl.attribute(nl.NFQA_HWADDR, value)))
        if (timestamp := given.get("timestamp")) is not None:
            value = struct.pack("!QQ", *divmod(round(timestamp * 1_000_000), 1_000_000))
            described.append((0, nl.attribute(nl.NFQA_TIMESTAMP, value)))
        if secctx := given.get("secctx"):
            flag = QueueFlag.NFQA_CFG_F_SECCTX
            described.append((flag, nl.attribute(nl.NFQA_SECCTX, secctx)))
        return described + self._describe_bridge() + self._describe_conntrack()

    def _describe_bridge(self) -> list[tuple[int, bytes]]:
        described = []
        if self._on_bridge and self._vlan is not None:
            proto, tci = (struct.pack("!H", part) for part in self._vlan)
            parts = nl.attribute(nl.NFQA_VLAN_TCI, tci) + nl.attribute(nl.NFQA_VLAN_PROTO, proto)
            described.append((0, nl.attribute(nl.NFQA_VLAN | nl.NLA_F_NESTED, parts)))
        if self._on_bridge and self._l2_header:
            described.append((0, nl.attribute(nl.NFQA_L2HDR, self._l2_header)))
        return described

    def _describe_conntrack(self) -> list[tuple[int, bytes]]:
        given = self._attributes.get("conntrack")
        if given is None:
            return []
        numbers = [
            (nl.CTA_ID, "!I", given.get("id")),
            (nl.CTA_STATUS, "!I", given.get("status")),
            (nl.CTA_ZONE, "!H", given.get("zone")),
            (nl.CTA_TIMEOUT, "!I", given.get("timeout")),
            (nl.CTA_MARK, "!I", self._ct_mark),
        ]
        parts = [
            nl.attribute(kind, struct.pack(form, number))
            for kind, form, number in numbers
            if number is not None
        ]
        if self._ct_labels and any(self._ct_labels):
            parts.append(nl.attribute(nl.CTA_LABELS, self._ct_labels))
        info = struct.pack("!I", self._attributes.get("ct_info", IP_CT_NEW))
        flag = QueueFlag.NFQA_CFG_F_CONNTRACK
        return [
            (flag, nl.attribute(nl.NFQA_CT | nl.NLA_F_NESTED, b"".join(parts))),
            (flag, nl.attribute(nl.NFQA_CT_INFO, info)),
        ]

    def _take(self, verdict: nl.SentVerdict) -> bool:
        """Takes over what a verdict changes; False if it does not fit, and the packet is lost."""
        self._verdicts += (verdict,)
        if self._on_bridge and not self._take_bridge(verdict):
            return False
        if self._ct_mark is not None:
            self._ct_mark = self._ct_mark if verdict.ct_mark is None else verdict.ct_mark
            self._ct_labels = verdict.ct_labels or self._ct_labels
        if verdict.payload is not None:
            self._payload = verdict.payload
            self._attributes = {**self._attributes, "original_length": 0}
        self._mark = self._mark if verdict.mark is None else verdict.mark
        self._priority = self._priority if verdict.priority is None else verdict.priority
        return True

    def _take_bridge(self, verdict: nl.SentVerdict) -> bool:
        if verdict.vlan is not None:
            if None in verdict.vlan:
                return False
            self._vlan = verdict.vlan if any(verdict.vlan) else None
        if verdict.l2_header is not None:
            if len(verdict.l2_header) != len(self._l2_header):
                return False
            self._l2_header = verdict.l2_header
        return True
