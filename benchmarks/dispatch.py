# SPDX-License-Identifier: GPL-2.0-or-later
"""Dispatch without a kernel: the instructions that handle_packet executes for a packet.

The messages are canned, the handle is on one end of a socket pair. `Instructions` plays the kernel
at the other end and runs this file under callgrind as

    dispatch.py DESCRIPTOR ACTION BATCH CALLS TOTAL

which makes TOTAL buffers of BATCH messages each and hands in the first CALLS of them. Two runs that
differ only in CALLS differ by what the dispatch costs, the callback included.
"""

import contextlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path
from unittest import mock

import consumers
import played_kernel as kernel
from lab import Figures, MeasurementError

import libnetfilterqueue as nfq

FEW, MANY = 30, 120  # batches of 64 packets, in the two runs
BATCH = 64
NFQA_IFINDEX_OUTDEV = 6
NFQA_SKB_INFO = 14


class Instructions:
    """Runs of this file under callgrind."""

    def __init__(self, action: str, batch: int, directory: Path) -> None:
        self._action, self._batch = action, batch
        self._clock = directory / "steady_clock.so"
        self._profile = directory / f"callgrind.{action}-{batch}"

    def measure(self) -> Figures:
        """Instructions a packet. The profile of the longer run stays in the directory."""
        few, many = (self._run(count * BATCH // self._batch) for count in (FEW, MANY))
        return {"instructions": (many - few) / ((MANY - FEW) * BATCH)}

    def _run(self, calls: int) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        numbers = (theirs.fileno(), self._action, self._batch, calls, MANY * BATCH // self._batch)
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={self._profile}",
            sys.executable,
            __file__,
            *map(str, numbers),
        ]
        playing = threading.Thread(target=_play, args=(ours,))
        with ours:
            playing.start()
            with theirs:
                done = subprocess.run(
                    command,
                    check=False,
                    capture_output=True,
                    text=True,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PYTHONHASHSEED": "0", "LD_PRELOAD": str(self._clock)},
                )
            ours.shutdown(socket.SHUT_RDWR)
            playing.join()
        if done.returncode != 0:
            raise MeasurementError(done.stderr.strip().rpartition("\n")[2])
        totals = re.search(r"^summary: (\d+)", self._profile.read_text(), re.MULTILINE)
        assert totals is not None
        return int(totals[1])

    def close(self) -> None:
        """Nothing is left."""


def _play(sock: socket.socket) -> None:
    """Acknowledges what asks for it, and throws away the verdicts."""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(1 << 18):
            for request in kernel.messages_in(data):
                if struct.unpack_from("=H", request, 6)[0] & kernel.NLM_F_ACK:
                    sock.send(kernel.error_message(0, request))


def message(packet_id: int) -> bytes:
    """A packet of 64 bytes, as it comes on its way to the loopback device."""
    attributes = (
        kernel.attribute(NFQA_IFINDEX_OUTDEV, struct.pack("!I", 1)),
        kernel.attribute(NFQA_SKB_INFO, struct.pack("!I", nfq.NFQA_SKB_CSUMNOTREADY)),
    )
    return kernel.aligned(kernel.packet_message(packet_id, bytes(64), *attributes))


def dispatch(handle: nfq.NetfilterQueueHandle, action: str, buffers: list[bytes]) -> None:
    """Hands in the buffers, to a queue with a callback."""
    handle.create_queue(1, consumers.ACTIONS[action](0))
    for buffer in buffers:
        try:  # noqa: SIM105 (a context manager would be counted)
            handle.handle_packet(buffer)
        except BlockingIOError:
            pass  # the other end is slow; the verdicts leave with the next ones


def read_stream(handle: nfq.NetfilterQueueHandle, buffers: list[bytes], packets: int) -> None:
    """The same with a stream, which reads the buffers in the place of its descriptor."""
    waiting = iter(buffers)
    with mock.patch.object(nfq, "open", return_value=handle):
        stream = nfq.open_queue(1).__enter__()
    feed = stream._feed
    assert feed is not None
    feed.__dict__.update(wait=lambda _: True, _process=lambda: handle.handle_packet(next(waiting)))
    for packet in islice(stream, packets):
        packet.accept()


def main(descriptor: int, action: str, batch: int, calls: int, total: int) -> None:
    """Dispatches so many buffers."""
    handle = nfq.open(fd=descriptor)
    buffers = [
        b"".join(message(1 + call * batch + i) for i in range(batch)) for call in range(total)
    ]
    if action == "stream":
        read_stream(handle, buffers, calls * batch)
    else:
        dispatch(handle, action, buffers[:calls])
    packets = handle.stats().packets
    if packets != calls * batch:
        sys.exit(f"{packets} of {calls * batch} packets were dispatched")
    os._exit(0)  # what ends here is not to be counted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
