# SPDX-License-Identifier: GPL-2.0-or-later
"""What `watch` tells of a packet."""

import json
import socket
from datetime import datetime
from typing import NamedTuple, Self

from rich.text import Text

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._dissect import VERSIONS, Dissected, IPAddress, dissect
from libnetfilterqueue.cli._protocols import protocol_name
from libnetfilterqueue.cli._text import printable

# Those of the terminal's own colours that can be read on black and on white.
STYLES = {"accept": "green", "drop": "red"}
OTHER_STYLE = "magenta"


class Record(NamedTuple):
    """A packet that has got its verdict."""

    packet: nfq.NetfilterQueueData
    verdict: str
    timestamp: float
    """The kernel's, or else when it was read: seconds since the epoch."""
    indev: str | None
    outdev: str | None
    payload: bytes
    fields: Dissected

    @classmethod
    def of(cls, packet: nfq.NetfilterQueueData, verdict: str, read_at: float) -> Self:
        """Reads a packet."""
        payload = packet.get_payload()
        return cls(
            packet,
            verdict,
            packet.timestamp or read_at,
            packet.indev_name(),
            packet.outdev_name(),
            payload,
            dissect(packet.hw_protocol, payload),
        )

    def line(self) -> Text:
        """A line for people, in tcpdump's manner."""
        style = STYLES.get(self.verdict, OTHER_STYLE)
        return Text.assemble(
            datetime.fromtimestamp(self.timestamp).strftime("%H:%M:%S.%f"),
            " ",
            (f"{self.verdict:6}", style),
            printable(f" {self.indev or ''}>{self.outdev or ''} "),
            *self._headers(),
            *self._remarks(),
        )

    def _headers(self) -> list[str | tuple[str, str]]:
        fields = self.fields
        if fields.saddr is None or fields.daddr is None:
            known = self.packet.hw_protocol in VERSIONS
            what = "malformed IP" if known else f"ethertype {self.packet.hw_protocol:#06x}"
            return [f"{what}, length {self.packet.original_length}"]
        return [
            "IP " if fields.saddr.version == 4 else "IP6 ",
            (_endpoint(fields.saddr, fields.sport), "bold"),
            " > ",
            (_endpoint(fields.daddr, fields.dport), "bold"),
            f": {self._protocol()}, length {fields.data_length}",
        ]

    def _protocol(self) -> str:
        fields = self.fields
        if fields.flags is not None:
            return f"Flags [{fields.flags or 'none'}]"
        name = protocol_name(fields.protocol or 0).upper()
        if fields.icmp_type is None:
            return name
        return f"{name} type {fields.icmp_type} code {fields.icmp_code}"

    def _remarks(self) -> list[str]:
        packet = self.packet
        return [
            *([", cut short"] if packet.truncated else []),
            *([f", mark {packet.mark:#x}"] if packet.mark else []),
            *([f", uid {packet.uid}"] if packet.uid is not None else []),
        ]

    def json(self) -> str:
        """A JSON object with everything, in one line; names are nft's where it has them."""
        packet, fields = self.packet, self.fields
        return json.dumps(
            {
                "timestamp": self.timestamp,
                "queue": packet.queue.number,
                "id": packet.id,
                "verdict": self.verdict,
                "hook": packet.hook.name,
                "family": socket.AddressFamily(packet.family).name,
                "indev": self.indev,
                "outdev": self.outdev,
                "physindev": packet.physindev_name(),
                "physoutdev": packet.physoutdev_name(),
                "hw_addr": packet.hw_addr.hex(":") or None,
                "hw_protocol": packet.hw_protocol,
                "mark": packet.mark,
                "uid": packet.uid,
                "gid": packet.gid,
                "saddr": _text(fields.saddr),
                "daddr": _text(fields.daddr),
                "protocol": None if fields.protocol is None else protocol_name(fields.protocol),
                "sport": fields.sport,
                "dport": fields.dport,
                "flags": fields.flags,
                "icmp_type": fields.icmp_type,
                "icmp_code": fields.icmp_code,
                "length": packet.original_length,
                "data_length": fields.data_length,
                "truncated": packet.truncated,
            }
        )


def _endpoint(address: IPAddress, port: int | None) -> str:
    return str(address) if port is None else f"{address}.{port}"


def _text(address: IPAddress | None) -> str | None:
    return None if address is None else str(address)
