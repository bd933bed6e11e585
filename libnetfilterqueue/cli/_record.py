# SPDX-License-Identifier: GPL-2.0-or-later
"""What is printed of a packet."""

import functools
import json
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._application import Application, read_application
from libnetfilterqueue.cli._captured_packet import CapturedPacket
from libnetfilterqueue.cli._dissect import (
    ETH_P_IP,
    ETH_P_IPV6,
    Dissected,
    address_text,
    dissect,
)
from libnetfilterqueue.cli._icmp import message_name
from libnetfilterqueue.cli._names import family_name, flag_names, name_of
from libnetfilterqueue.cli._protocols import protocol_name
from libnetfilterqueue.cli._text import printable

TUPLES = (nfq.Vlan, nfq.Conntrack)
DUMPED = 16  # bytes in a line
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Record:
    """A packet that has got its verdict. What takes time is read when it is asked for."""

    __slots__ = (
        "_fields",
        "_more",
        "_notes",
        "packet",
        "payload",
        "timestamp",
        "verdict",
    )

    def __init__(
        self,
        packet: nfq.NetfilterQueueData | CapturedPacket,
        verdict: str,
        read_at: float,
        *,
        notes: str = "",
        more: Mapping[str, Any] = NOTHING,
    ) -> None:
        """`notes` are what there is besides to be said in a line, and `more` in JSON."""
        self.packet = packet
        self.verdict = verdict
        self.timestamp: float = packet.timestamp or read_at
        """The kernel's, or else when it was read: seconds since the epoch."""
        self.payload: bytes = packet.get_payload()
        self._notes = notes
        self._more = more
        self._fields: Dissected | None = None

    @property
    def fields(self) -> Dissected:
        """What its headers say."""
        if self._fields is None:
            self._fields = dissect(self.packet.hw_protocol, self.payload)
        return self._fields

    @property
    def indev(self) -> str | None:
        """The name of the device that has received it."""
        return self.packet.indev_name()

    @property
    def outdev(self) -> str | None:
        """The name of the device that will send it."""
        return self.packet.outdev_name()

    def line(self) -> str:
        """A line for people, in tcpdump's manner."""
        devices = f"{self.indev or ''}>{self.outdev or ''}"
        if not devices.isprintable():
            devices = printable(devices)
        return (
            f"{clock(self.timestamp)} {self.verdict:6} {devices} {self._headers()}{self._remarks()}"
        )

    def _headers(self) -> str:
        fields, packet = self.fields, self.packet
        saddr, daddr, _, protocol, start, sport, dport, flags, icmp_type, icmp_code, end = fields
        if saddr is None or daddr is None:
            known = packet.hw_protocol in (ETH_P_IP, ETH_P_IPV6)
            what = "malformed IP" if known else f"ethertype {packet.hw_protocol:#06x}"
            return f"{what}, length {packet.original_length}"
        version = "IP" if len(saddr) == 4 else "IP6"
        if flags is not None:
            name = f"Flags [{flags or 'none'}]"
        elif icmp_type is not None and icmp_code is not None:
            name = (
                f"{upper_name(protocol)} {message_name(icmp_type, icmp_code, v6=version == 'IP6')}"
            )
        else:
            name = upper_name(protocol)
        if sport is None:
            ends = f"{address_text(saddr)} > {address_text(daddr)}"
        else:
            ends = f"{address_text(saddr)}.{sport} > {address_text(daddr)}.{dport}"
        return f"{version} {ends}: {name}, length {end - start}"

    def _remarks(self) -> str:
        packet, said = self.packet, self.application.text()
        text = ", cut short" if packet.truncated else ""
        if packet.mark:
            text += f", mark {packet.mark:#x}"
        if packet.uid is not None:
            text += f", uid {packet.uid}"
        if self._notes:
            text += f", {printable(self._notes)}"
        return f"{text}, {printable(said)}" if said else text  # last: others have chosen it

    @property
    def application(self) -> Application:
        """What its data say."""
        return read_application(self.fields, self.payload)

    def dump(self) -> str:
        """Its bytes, in hexadecimal digits and as ASCII; 60 columns are enough."""
        return "\n".join(
            f"  {at:04x}  {piece.hex(' ', -4):35} {ascii_text(piece)}"
            for at in range(0, len(self.payload), DUMPED)
            for piece in [self.payload[at : at + DUMPED]]
        )

    def json(self) -> str:
        """A JSON object with everything, in one line; names are nft's, or else Packet's own."""
        packet, fields, said = self.packet, self.fields, self.application
        return encode(
            {
                "timestamp": self.timestamp,
                "queue": packet.queue and packet.queue.number,
                "id": packet.id,
                "verdict": self.verdict,
                "hook": None if packet.hook is None else name_of(packet.hook),
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
                "saddr": fields.saddr and address_text(fields.saddr),
                "daddr": fields.daddr and address_text(fields.daddr),
                "extensions": [protocol_name(number) for number in fields.extensions],
                "protocol": None if fields.protocol is None else protocol_name(fields.protocol),
                "sport": fields.sport,
                "dport": fields.dport,
                "flags": fields.flags,
                "icmp_type": fields.icmp_type,
                "icmp_code": fields.icmp_code,
                "dns": said.dns and {"id": said.dns_id, **said.dns._asdict()},
                "tls_server_name": said.tls_server_name,
                "http": said.http,
                "length": packet.original_length,
                "data_length": fields.data_length,
                "truncated": packet.truncated,
                **self._more,
                "payload": self.payload.hex(),
            }
        )


encode = json.JSONEncoder().encode


def clock(timestamp: float) -> str:
    """The local time to the microsecond, the same one that is written to files."""
    seconds, microseconds = divmod(round(timestamp * 1e6), 1_000_000)
    return f"{local_time(seconds)}.{microseconds:06}"


@functools.lru_cache(4)
def local_time(seconds: int) -> str:
    """Without what is smaller; many packets come within a second."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


@functools.cache
def upper_name(protocol: int) -> str:
    """What IP carries, as a line has it."""
    return protocol_name(protocol).upper()


def ascii_text(data: bytes) -> str:
    """The bytes that are ASCII, and dots."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)


def _text(name: bytes | None) -> str | None:
    """A name that is text, but need not be."""
    return None if name is None else name.decode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    """What JSON has no type for: bytes as hexadecimal digits, a named tuple by its fields."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, TUPLES):
        return {name: _plain(field) for name, field in value._asdict().items()}
    return value
