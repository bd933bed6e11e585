# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the IP packets of pcap and pcapng files. scapy reads the files, _links the frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from libnetfilterqueue.testing._attributes import Attributes
from libnetfilterqueue.testing._links import LINKS

LINK_TYPE = 0xFFFF  # above are other things, such as how long the frames' check sequences are
FRAME_MAX = 1 << 18
IPV6_HEADER = 40


class Captured(NamedTuple):
    """An IP packet of a file."""

    payload: bytes
    timestamp: float | None
    original_length: int

    def attributes(self) -> Attributes:
        """What its file says of it."""
        attributes: Attributes = {"original_length": self.original_length}
        if self.timestamp is not None:
            attributes["timestamp"] = self.timestamp
        return attributes


class Frame(NamedTuple):
    """A frame of a file."""

    link: int
    data: bytes
    missing: int
    """Bytes that were not captured."""
    timestamp: float | None

    def packets(self) -> Iterator[Captured]:
        """The IP packets within, without padding."""
        for packet in LINKS[self.link](self.data):
            length = ip_length(packet) or len(packet) + self.missing
            yield Captured(packet[:length], self.timestamp, length)


def ip_length(packet: bytes) -> int:
    """What an IP packet says; 0 if it was captured before its segmentation, or is cut before."""
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big") if len(packet) >= 4 else 0
    length = int.from_bytes(packet[4:6], "big") if len(packet) >= 6 else 0
    return length and IPV6_HEADER + length


def read_capture(path: str | Path) -> list[Captured]:
    """The IP packets of a file without their link-layer headers and padding."""
    captured: list[Captured] = []
    frames = 0
    for frame in read_frames(path):
        if frame.link not in LINKS:
            raise ValueError(
                f"enqueue_capture(): {path}: "
                f"link type {frame.link} is not known to carry IP packets"
            )
        captured += frame.packets()
        frames += 1
    if frames and not captured:
        raise ValueError(f"enqueue_capture(): {path}: no IP packet in {frames} frames")
    return captured


def read_frames(path: str | Path) -> Iterator[Frame]:
    """The frames of a file."""
    try:
        from scapy.utils import RawPcapReader  # noqa: PLC0415 (takes long, and few need it)
    except ModuleNotFoundError as error:
        raise ImportError(
            "enqueue_capture() needs scapy: pip install 'libnetfilterqueue[testing]'", name="scapy"
        ) from error
    with RawPcapReader(str(path)) as reader:
        if hasattr(reader, "interfaces"):
            mend(reader)
        while True:
            try:
                data, about = reader._read_packet(FRAME_MAX)
            except EOFError:
                return
            link = getattr(about, "linktype", None)
            if link is None:
                link = reader.linktype
            missing = max(about.wirelen - len(data), 0)
            yield Frame(link & LINK_TYPE, data, missing, time_of(about, reader))


def mend(reader: Any) -> None:
    """pcapng: each section has interfaces of its own, and a snap length of 0 is none at all.

    scapy lets those of the section before stand, and takes 0 bytes of simple blocks.
    """
    read_section, read_interface = reader._read_block_shb, reader.blocktypes[1]

    def section() -> None:
        reader.interfaces.clear()
        read_section()

    def interface(block: bytes, size: int) -> None:
        read_interface(block, size)
        link, most, options = reader.interfaces[-1]
        reader.interfaces[-1] = (link, most or FRAME_MAX, options)

    reader._read_block_shb = section
    reader.blocktypes[1] = interface


def time_of(about: Any, reader: Any) -> float | None:
    """When a frame was captured, in seconds; pcapng's simple blocks don't say it."""
    if hasattr(about, "sec"):
        return float(about.sec + about.usec / (1e9 if reader.nano else 1e6))
    if about.tshigh is None:
        return None
    return float(((about.tshigh << 32) + about.tslow) / about.tsresol)
