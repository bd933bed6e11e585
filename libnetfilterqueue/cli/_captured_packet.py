# SPDX-License-Identifier: GPL-2.0-or-later
"""A packet of a file, with the attributes that a packet of a queue has."""

import copy
import re
import socket
from typing import Self

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._dissect import ETH_P_IP, ETH_P_IPV6
from libnetfilterqueue.testing import Attributes
from libnetfilterqueue.testing._captures import Captured

NO_VERDICT = "-"
# What `watch` itself has written to the file.
COMMENT = re.compile(r"(?P<verdict>\S+), mark (?P<mark>0x[0-9a-f]{1,8}), uid (?P<uid>\d+|None)")


class CapturedPacket:
    """What its file does not say of it is as it is where the kernel does not say it, or None."""

    queue = id = hook = l2_header = vlan = gid = secctx = ct_info = conntrack = None
    indev = outdev = physindev = physoutdev = priority = cgroup_classid = 0
    skb_info = nfq.SkbInfo(0)
    hw_addr = b""

    def __init__(self, captured: Captured) -> None:
        self._captured = captured
        self.timestamp = captured.timestamp
        self.original_length = captured.original_length
        self.mark = 0
        self.uid: int | None = None
        self.verdict = NO_VERDICT
        own = COMMENT.fullmatch(captured.comment or "")
        if own:
            self.verdict, self.mark = own["verdict"], int(own["mark"], 0)
            self.uid = None if own["uid"] == "None" else int(own["uid"])

    def changed(self, payload: bytes, mark: int) -> Self:
        """The same as a verdict has left it."""
        other = copy.copy(self)
        other.mark = mark
        if payload != self.get_payload():
            other.original_length = len(payload)
            other._captured = self._captured._replace(payload=payload)
        return other

    def attributes(self) -> Attributes:
        """What a kernel can be told of it."""
        attributes: Attributes = {**self._captured.attributes(), "mark": self.mark}
        if self.uid is not None:
            attributes["uid"] = self.uid
        return attributes

    @property
    def truncated(self) -> bool:
        """Whether the capture has cut it."""
        return self.original_length > len(self._captured.payload)

    @property
    def hw_protocol(self) -> int:
        """The EtherType."""
        return ETH_P_IPV6 if self.family == socket.AF_INET6 else ETH_P_IP

    @property
    def family(self) -> int:
        """The protocol family."""
        is_ipv6 = self._captured.payload[0] >> 4 == 6
        return int(socket.AF_INET6 if is_ipv6 else socket.AF_INET)

    def get_payload(self) -> bytes:
        """Its bytes from the network header on."""
        return self._captured.payload

    def indev_name(self) -> str | None:
        """The device that has received it."""
        return self._captured.device if self._captured.inbound else None

    def outdev_name(self) -> str | None:
        """The device that was to send it, or one of which nothing else is known."""
        return None if self._captured.inbound else self._captured.device

    def physindev_name(self) -> None:
        """Files do not say that."""

    physoutdev_name = physindev_name
