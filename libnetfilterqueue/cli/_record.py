# SPDX-License-Identifier: GPL-2.0-or-later
"""What `watch` prints of a packet."""

import json
from datetime import datetime
from typing import Any, NamedTuple, Self

from rich.text import Text

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._dissect import VERSIONS, Dissected, IPAddress, dissect
from libnetfilterqueue.cli._names import family_name, flag_names, name_of
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
        """A JSON object with everything, in one line; names are nft's, or else Packet's own."""
        packet, fields = self.packet, self.fields
        return json.dumps(
            {
                "timestamp": self.timestamp,
                "queue": packet.queue.number,
                "id": packet.id,
                "verdict": self.verdict,
                "hook": name_of(packet.hook),
                "family": family_name(packet.family),
                "indev": self.indev,
                "indev_index": packet.indev,
                "outdev": self.outdev,
                "outdev_index": packet.outdev,
                "physindev": packet.physindev_name(),
                "physindev_index": packet.physindev,
                "physoutdev": packet.physoutdev_name(),
                "physoutdev_index": packet.physoutdev,
                "hw_addr": packet.hw_addr.hex(":") or None,
                "hw_protocol": packet.hw_protocol,
                "l2_header": _plain(packet.l2_header),
                "vlan": _plain(packet.vlan),
                "mark": packet.mark,
                "priority": packet.priority,
                "skb_info": flag_names(packet.skb_info),
                "uid": packet.uid,
                "gid": packet.gid,
                "cgroup_classid": packet.cgroup_classid,
                "secctx": _text(packet.secctx),
                "ct_info": packet.ct_info,
                "conntrack": _plain(packet.conntrack),
                "saddr": fields.saddr and str(fields.saddr),
                "daddr": fields.daddr and str(fields.daddr),
                "extensions": [protocol_name(number) for number in fields.extensions],
                "protocol": None if fields.protocol is None else protocol_name(fields.protocol),
                "sport": fields.sport,
                "dport": fields.dport,
                "flags": fields.flags,
                "icmp_type": fields.icmp_type,
                "icmp_code": fields.icmp_code,
                "length": packet.original_length,
                "data_length": fields.data_length,
                "truncated": packet.truncated,
                "payload": self.payload.hex(),
            }
        )


def _endpoint(address: IPAddress, port: int | None) -> str:
    return str(address) if port is None else f"{address}.{port}"


def _text(name: bytes | None) -> str | None:
    """A name that is text, but need not be."""
    return None if name is None else name.decode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    """What JSON has no type for: bytes as hexadecimal digits, a named tuple by its fields."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, nfq.Vlan | nfq.Conntrack):
        return {name: _plain(field) for name, field in value._asdict().items()}
    return value
