# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the IP packets of pcap and pcapng files. scapy reads the files, _links the frames."""

import contextlib
import gzip
import logging
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from libnetfilterqueue.testing._attributes import Attributes
from libnetfilterqueue.testing._links import LINKS

LINK_TYPE = 0xFFFF  # above are other things, such as how long the frames' check sequences are
FRAME_MAX = 1 << 18
IPV6_HEADER = 40
GZIP = b"\x1f\x8b"
INBOUND = 1  # a direction in pcapng


class Captured(NamedTuple):
    """An IP packet of a file."""

    payload: bytes
    timestamp: float | None
    original_length: int
    device: str | None = None
    """Where it was captured, if the file says it."""
    inbound: bool = False
    """Whether the file says that the device has received it."""
    comment: str | None = None

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
    about: Any
    """What scapy has read of it besides."""

    def packets(self) -> Iterator[Captured]:
        """The IP packets within, without padding."""
        for packet in LINKS[self.link](self.data):
            length = ip_length(packet) or len(packet) + self.missing
            yield Captured(
                packet[:length],
                self.timestamp,
                length,
                text_of(getattr(self.about, "ifname", None)),
                getattr(self.about, "direction", None) == INBOUND,
                self._comment(),
            )

    def _comment(self) -> str | None:
        """The first one; scapy before 2.7 has one only."""
        one = getattr(self.about, "comment", None)
        return text_of(next(iter(getattr(self.about, "comments", None) or ()), one))


def text_of(data: bytes | None) -> str | None:
    """A name or a comment; device names need not be UTF-8."""
    return None if data is None else data.decode(errors="surrogateescape")


def ip_length(packet: bytes) -> int:
    """What an IP packet says; 0 if it was captured before its segmentation, or is cut before."""
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big") if len(packet) >= 4 else 0
    length = int.from_bytes(packet[4:6], "big") if len(packet) >= 6 else 0
    return length and IPV6_HEADER + length


class CaptureError(ValueError):
    """A file is no capture, or a damaged one; the message does not name it."""


class Source:
    """A file that is read, which notes whether it has ended too early."""

    def __init__(self, file: BufferedReader) -> None:
        is_compressed = file.peek(len(GZIP)).startswith(GZIP)
        self._file = gzip.GzipFile(fileobj=file) if is_compressed else file
        self.is_cut = False

    def read(self, size: int) -> bytes:
        """As much as there is, up to that size."""
        data = self._file.read(size)
        self.is_cut |= 0 < len(data) < size
        return data


def read_capture(path: str | Path) -> list[Captured]:
    """The IP packets of a file without their link-layer headers and padding."""
    try:
        import scapy.utils  # noqa: F401, PLC0415 (before the file is opened)
    except ModuleNotFoundError as error:
        raise ImportError(
            "enqueue_capture() needs scapy: pip install 'libnetfilterqueue[testing]'", name="scapy"
        ) from error
    captured: list[Captured] = []
    frames = 0
    try:
        with open(path, "rb") as file:
            for frame in read_frames(file):
                captured += frame.packets()
                frames += 1
    except CaptureError as error:
        raise ValueError(f"enqueue_capture(): {path}: {error}") from error
    if frames and not captured:
        raise ValueError(f"enqueue_capture(): {path}: no IP packet in {frames} frames")
    return captured


def read_frames(file: BufferedReader) -> Iterator[Frame]:
    """The frames of a file. Raises CaptureError behind those that can be read."""
    from scapy.utils import RawPcapReader  # noqa: PLC0415 (takes long, and few need it)

    source = Source(file)
    with complaints() as heard:
        reader: Any = RawPcapReader(source)  # type: ignore[arg-type]
        if hasattr(reader, "interfaces"):
            mend(reader)
        while True:
            try:
                data, about = reader._read_packet(FRAME_MAX)
            except EOFError as end:
                heard.extend(map(str, end.args))
                break
            source.is_cut |= len(data) < min(getattr(about, "caplen", 0), FRAME_MAX)
            if source.is_cut or heard:
                break
            link = (about.linktype if hasattr(about, "linktype") else reader.linktype) & LINK_TYPE
            if link not in LINKS:
                raise CaptureError(f"link type {link} is not known to carry IP packets")
            missing = max(about.wirelen - len(data), 0)
            yield Frame(link, data, missing, time_of(about, reader), about)
        if source.is_cut:
            raise CaptureError("the file ends within a packet")
        if heard:
            raise CaptureError(f"the file is damaged: {heard[0]}")


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """What scapy has to say of a file; it would go to a log."""
    heard: list[str] = []

    def hear(record: logging.LogRecord) -> bool:
        heard.append(record.getMessage())
        return False

    log = logging.getLogger("scapy.runtime")
    log.filters.insert(0, hear)  # scapy's own lets few of them through
    try:
        yield heard
    finally:
        log.filters.remove(hear)


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
