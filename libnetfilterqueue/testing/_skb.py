# SPDX-License-Identifier: GPL-2.0-or-later
"""A packet as the kernel has it: a struct sk_buff, with the rules that it meets."""

import socket
import struct

from libnetfilterqueue._netlink import attribute
from libnetfilterqueue.constants import Hook, QueueFlag, SkbInfo
from libnetfilterqueue.testing import _messages as nl
from libnetfilterqueue.testing._attributes import Attributes
from libnetfilterqueue.testing._rules import Rule, first_queue
from libnetfilterqueue.tuples import Vlan

IP_CT_NEW = 2


class Skb:
    """A packet. The fake kernel's lock protects it."""

    def __init__(self, payload: bytes, rules: list[Rule], attributes: Attributes) -> None:
        self.rules: list[Rule] = rules
        self.id: int | None = None
        self.number: int = first_queue(rules)
        self.passed: bool | None = None
        self.verdicts: tuple[nl.SentVerdict, ...] = ()
        self.payload: bytes = payload
        self.mark: int = attributes.get("mark", 0)
        self.priority: int = attributes.get("priority", 0)
        self.vlan: Vlan | None = Vlan(*attributes["vlan"]) if "vlan" in attributes else None
        self.l2_header: bytes = attributes.get("l2_header", b"")
        conntrack = attributes.get("conntrack")
        self.ct_mark: int | None = None if conntrack is None else conntrack.get("mark", 0)
        self.ct_labels: bytes | None = (
            None if conntrack is None else conntrack.get("labels", bytes(16))
        )
        self._attributes: Attributes = attributes
        self._family, self._hw_protocol = self._protocols()

    def _protocols(self) -> tuple[int, int]:
        """Family and EtherType."""
        version = self.payload[0] >> 4 if self.payload else 4
        family, hw_protocol = (
            (socket.AF_INET6, 0x86DD) if version == 6 else (socket.AF_INET, 0x0800)
        )
        if self.vlan is not None or self.l2_header:
            family = socket.AF_BRIDGE
        given = self._attributes
        return given.get("family", int(family)), given.get("hw_protocol", hw_protocol)

    @property
    def _on_bridge(self) -> bool:
        return self._family == socket.AF_BRIDGE

    def message(self, packet_id: int, number: int, copied: int | None, flags: int) -> bytes:
        """What the queue sends: `copied` bytes of the payload at most, None for its attributes."""
        attributes = [value for flag, value in self._describe() if flag & ~flags == 0]
        payload = None
        length = max(self._attributes.get("original_length", 0), len(self.payload))
        if copied is not None:
            payload = self.payload[:copied] or None
            if length > len(payload or b""):
                attributes.append(attribute(nl.NFQA_CAP_LEN, struct.pack("!I", length)))
        info = self._attributes.get("skb_info", 0)
        if not flags & QueueFlag.NFQA_CFG_F_GSO:
            info &= SkbInfo.NFQA_SKB_CSUM_NOTVERIFIED
        if info:
            attributes.append(attribute(nl.NFQA_SKB_INFO, struct.pack("!I", info)))
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
            (0, nl.NFQA_MARK, self.mark),
            (0, nl.NFQA_PRIORITY, self.priority),
            (0, nl.NFQA_CGROUP_CLASSID, given.get("cgroup_classid", 0)),
            (uid_gid, nl.NFQA_UID, given.get("uid")),
            (uid_gid, nl.NFQA_GID, given.get("gid")),
        ]
        described = [
            (flag, attribute(kind, struct.pack("!I", number)))
            for flag, kind, number in numbers
            if number or (number == 0 and flag)
        ]
        if hw_addr := given.get("hw_addr", b""):
            value = struct.pack("!HH8s", len(hw_addr), 0, hw_addr)
            described.append((0, attribute(nl.NFQA_HWADDR, value)))
        if (timestamp := given.get("timestamp")) is not None:
            value = struct.pack("!QQ", *divmod(round(timestamp * 1_000_000), 1_000_000))
            described.append((0, attribute(nl.NFQA_TIMESTAMP, value)))
        if secctx := given.get("secctx"):
            flag = QueueFlag.NFQA_CFG_F_SECCTX
            described.append((flag, attribute(nl.NFQA_SECCTX, secctx)))
        return described + self._describe_bridge() + self._describe_conntrack()

    def _describe_bridge(self) -> list[tuple[int, bytes]]:
        described = []
        if self._on_bridge and self.vlan is not None:
            proto, tci = (struct.pack("!H", part) for part in self.vlan)
            parts = attribute(nl.NFQA_VLAN_TCI, tci) + attribute(nl.NFQA_VLAN_PROTO, proto)
            described.append((0, attribute(nl.NFQA_VLAN | nl.NLA_F_NESTED, parts)))
        if self._on_bridge and self.l2_header:
            described.append((0, attribute(nl.NFQA_L2HDR, self.l2_header)))
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
            (nl.CTA_MARK, "!I", self.ct_mark),
        ]
        parts = [
            attribute(kind, struct.pack(form, number))
            for kind, form, number in numbers
            if number is not None
        ]
        if self.ct_labels and any(self.ct_labels):
            parts.append(attribute(nl.CTA_LABELS, self.ct_labels))
        info = struct.pack("!I", self._attributes.get("ct_info", IP_CT_NEW))
        flag = QueueFlag.NFQA_CFG_F_CONNTRACK
        return [
            (flag, attribute(nl.NFQA_CT | nl.NLA_F_NESTED, b"".join(parts))),
            (flag, attribute(nl.NFQA_CT_INFO, info)),
        ]

    def take(self, verdict: nl.SentVerdict) -> bool:
        """Takes over what a verdict changes; False if it does not fit, and the packet is lost."""
        self.verdicts += (verdict,)
        if self._on_bridge and not self._take_bridge(verdict):
            return False
        if self.ct_mark is not None:
            self.ct_mark = self.ct_mark if verdict.ct_mark is None else verdict.ct_mark
            self.ct_labels = verdict.ct_labels or self.ct_labels
        if verdict.payload is not None:
            self.payload = verdict.payload
            self._attributes = {**self._attributes, "original_length": 0}
        self.mark = self.mark if verdict.mark is None else verdict.mark
        self.priority = self.priority if verdict.priority is None else verdict.priority
        return True

    def _take_bridge(self, verdict: nl.SentVerdict) -> bool:
        if verdict.vlan is not None:
            if None in verdict.vlan:
                return False
            self.vlan = verdict.vlan if any(verdict.vlan) else None
        if verdict.l2_header is not None:
            if len(verdict.l2_header) != len(self.l2_header):
                return False
            self.l2_header = verdict.l2_header
        return True
