# SPDX-License-Identifier: GPL-2.0-or-later
"""Sees the packets that have passed all rules of a namespace, and lets none of them out."""

from typing import NamedTuple

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext
from libnetfilterqueue.testing._real_namespace import Netlink, UnavailableError
from libnetfilterqueue.testing._real_rules import LAST_NUMBER


class Seen(NamedTuple):
    """A packet that has passed."""

    payload: bytes | None
    """``None`` if it is longer than what a queue tells of a packet."""
    mark: int
    priority: int


class Observer:
    """The queue behind all rules."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._seen: list[Seen] = []
        self._handle = _ext.open(fd=netlink.fileno())
        try:
            self._handle.create_queue(LAST_NUMBER, self._see)
        except OSError as error:
            self._handle.close()
            raise UnavailableError(f"this kernel has no queues for packets: {error}") from error

    def _see(self, packet: nfq.NetfilterQueueData) -> None:
        payload = None if packet.truncated else packet.get_payload()
        self._seen.append(Seen(payload, packet.mark, packet.priority))
        packet.drop()

    def read(self) -> Seen | None:
        """The packet that has passed since the last look, if any."""
        self._handle.process()
        return self._seen.pop() if self._seen else None

    def close(self) -> None:
        """Closes its socket."""
        self._handle.close()
        self._netlink.close()
