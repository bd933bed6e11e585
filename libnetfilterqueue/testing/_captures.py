# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading packets from pcap and pcapng files, by scapy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from libnetfilterqueue.testing._attributes import Attributes


class Captured(NamedTuple):
    """An IP packet of a file."""

    payload: bytes
    timestamp: float
    original_length: int

    def attributes(self) -> Attributes:
        """What its file says of it."""
        return {"timestamp": self.timestamp, "original_length": self.original_length}


def read_capture(path: str | Path) -> Iterator[Captured]:
    """The IP packets of a file without their link-layer headers and padding; skips all else."""
    try:
        from scapy.layers.inet import IP  # noqa: PLC0415 (takes long, and few need it)
        from scapy.layers.inet6 import IPv6  # noqa: PLC0415
        from scapy.utils import PcapReader  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ImportError(
            "enqueue_capture() needs scapy: pip install 'libnetfilterqueue[testing]'", name="scapy"
        ) from error
    with PcapReader(str(path)) as reader:
        for frame in reader:
            layer: Any = frame
            while layer and not isinstance(layer, IP | IPv6):
                layer = layer.payload
            if layer:
                # 0 in what was captured before its segmentation, or is longer than 64 KiB.
                length = layer.len if isinstance(layer, IP) else layer.plen and 40 + layer.plen
                payload = layer.original[: length or None]
                yield Captured(payload, float(frame.time), length or len(payload))
