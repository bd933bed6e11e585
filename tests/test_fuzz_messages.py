# SPDX-License-Identifier: GPL-2.0-or-later
"""handle_packet with any bytes: it does what a plain reader of messages says, and never crashes.

`./dev fuzz` goes on with this for as long as it is told.
"""

import struct
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from buffers import BUFFERS, Buffer
from hypothesis import example, given
from hypothesis import strategies as st
from ledger import Due, Ledger, Waiting
from played_kernel import (
    MSG_CONFIG,
    MSG_PACKET,
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    NFQA_HWADDR,
    NFQA_PACKET_HDR,
    NFQA_VERDICT_HDR,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_NOOP,
    PlayedKernel,
    aligned,
    attribute,
    error_message,
    message,
    packet_message,
)
from queues import Packet
from reading import Read, read_buffer

import libnetfilterqueue as nfq

CORPUS = Path(__file__).parent / "fuzz" / "corpus" / "message"
REAL = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
QUEUES = (0, 1)
IDS = [1, 2, 3, 4, 0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
LENGTHS = [0, 1, 3, 4, 5, 7, 8, 15, 16, 20, 0xFF, 0x7FFF, 0x8000, 0xFFFC, 0xFFFF]
WAYS = ("accept", "drop", "keep", "view", "raise", "nothing")


class Failure(Exception):  # noqa: N818 (it stands for any)
    """What callbacks raise here."""


# Bytes


class Change(NamedTuple):
    """What is done to a message, at a place counted modulo its length."""

    place: int
    kind: str
    value: int


def change(data: bytes, what: Change) -> bytes:
    at = what.place % (len(data) + 1)
    part = what.value % 40
    match what.kind:
        case "byte":
            return data[:at] + bytes([what.value & 0xFF]) + data[at + 1 :]
        case "length":
            at -= at % 4  # where attributes begin
            return data[:at] + struct.pack("=H", what.value) + data[at + 2 :]
        case "cut":
            return data[:at]
        case "remove":
            return data[:at] + data[at + part :]
        case _:
            return data[:at] + data[at : at + part] + data[at:]


def change_all(data: bytes, changes: list[Change]) -> bytes:
    for what in changes:
        data = change(data, what)
    return data


def make_packet(packet_id: int, payload: bytes, number: int, attributes: list[bytes]) -> bytes:
    return packet_message(packet_id, payload, *attributes, number=number)


def make_request(kind: int, packet_id: int, number: int, sequence: int) -> bytes:
    """What might have been sent, for an answer to echo."""
    header = attribute(NFQA_VERDICT_HDR, struct.pack("!II", nfq.NF_ACCEPT, packet_id))
    return message(kind, struct.pack("!BBH", 0, 0, number) + header, sequence)


def make_refusal(error: int, request: bytes) -> bytes:
    """An answer with all of the request in it."""
    return message(NLMSG_ERROR, struct.pack("=i", -error) + request)


ids = st.sampled_from(IDS)
hardware = st.builds(
    lambda size, address: attribute(NFQA_HWADDR, struct.pack("!HH", size, 0) + address),
    st.integers(0, 9),
    st.binary(min_size=8, max_size=8),
)
attributes = hardware | st.builds(
    attribute, st.integers(0, 24) | st.integers(0, 0xFFFF), st.binary(max_size=40)
)
packets = st.builds(
    make_packet,
    ids,
    st.binary(max_size=40),
    st.sampled_from([*QUEUES, 2]),
    st.lists(attributes, max_size=3),
)
requests = st.builds(
    make_request,
    st.sampled_from([MSG_VERDICT, MSG_VERDICT_BATCH, MSG_CONFIG, NLMSG_NOOP]),
    ids,
    st.sampled_from(QUEUES),
    ids,
)
answers = st.builds(make_refusal, st.integers(-1, 5000), requests) | st.builds(
    error_message, st.integers(0, 200), requests
)
others = st.builds(
    message, st.sampled_from([NLMSG_NOOP, NLMSG_DONE, MSG_PACKET, 77]), st.binary(max_size=9)
)
messages = st.sampled_from(REAL) | packets | answers | others
changes = st.builds(
    Change,
    st.integers(0, 2048),
    st.sampled_from(["byte", "length", "cut", "remove", "repeat"]),
    st.sampled_from(LENGTHS) | st.integers(0, 0xFFFF),
)
changed = st.builds(change_all, messages, st.lists(changes, min_size=1, max_size=4))
rows = st.lists((messages | changed).map(aligned), min_size=1, max_size=5).map(b"".join)
anything = (
    rows | st.builds(change_all, rows, st.lists(changes, max_size=2)) | st.binary(max_size=100)
)


# What is done with them


def attributes_of(packet: Packet, names: object) -> dict[str, object]:
    """A packet's attributes, with plain values."""
    assert isinstance(names, dict)
    found: dict[str, object] = {}
    for name in names:
        value = getattr(packet, name)
        if isinstance(value, memoryview):
            value = bytes(value)
        found[name] = value._asdict() if hasattr(value, "_asdict") else value
    return found


class Callback:
    """The callback of all queues, which treats packets in different ways."""

    def __init__(self, expected: list[Read], ways: list[str]) -> None:
        self.expected = expected
        self.ways = ways
        self.ledger = Ledger()
        self.count = 0
        self.failures = 0
        self.defaulted = 0
        self.kept: list[tuple[Packet, Read, Waiting]] = []
        self.views: list[tuple[memoryview, object]] = []

    def __call__(self, packet: Packet) -> None:
        read = self.expected[self.count]
        way = self.ways[self.count % len(self.ways)]
        self.count += 1
        assert packet.queue.number == read.number
        assert attributes_of(packet, read.values) == read.values
        entry = self.ledger.queue(packet.queue.number, packet.id)
        entry.due = Due(nfq.NF_DROP)
        if way == "accept":
            packet.accept()
            entry.due = Due(nfq.NF_ACCEPT)
        elif way == "drop":
            packet.drop()
        elif way == "keep":
            self.kept.append((packet, read, entry))
            entry.due = None
        else:
            self.defaulted += 1
            self._leave(packet, read, way)

    def _leave(self, packet: Packet, read: Read, way: str) -> None:
        """Without a verdict."""
        if way == "view":
            self.views.append((packet.payload, read.values["payload"]))
        elif way == "raise":
            self.failures += 1
            raise Failure


def check_views(callback: Callback, buffer: Buffer) -> None:
    """Views hold the buffer, and let it go."""
    assert all(view.readonly and view == payload for view, payload in callback.views)
    if isinstance(buffer, bytearray):
        if callback.views:
            with pytest.raises(BufferError):
                buffer.append(0)
        callback.views.clear()
        buffer.append(0)


def overwrite(buffer: Buffer) -> None:
    """Another message comes to stand in the buffer, if it can be written to."""
    view = memoryview(buffer)
    if not view.readonly:
        view.cast("B")[:] = b"\xff" * view.nbytes


def check_kept(callback: Callback, kernel: PlayedKernel) -> None:
    """Packets that are kept stay as they were, and get their verdicts now."""
    for packet, read, entry in callback.kept:
        assert attributes_of(packet, read.values) == read.values
        assert packet.verdict is None
        entry.due = Due(nfq.NF_REPEAT)
        packet.repeat()
        callback.ledger.read(kernel.received())
        assert entry.answered


def check_stats(kernel: PlayedKernel, read: list[Read], callback: Callback) -> None:
    stats = kernel.handle.stats()
    packets = [message for message in read if message.values]
    dispatched = [packet for packet in packets if packet.number in QUEUES]
    assert stats.packets == callback.count == len(dispatched)
    assert stats.orphaned == len(packets) - len(dispatched)
    assert stats.truncated == sum(bool(packet.values["truncated"]) for packet in dispatched)
    assert stats.defaulted == callback.defaulted
    assert stats.verdicts == len(dispatched)
    assert stats.verdict_errors == sum(message.refusal for message in read)


def hand_in(kernel: PlayedKernel, buffer: Buffer, callback: Callback, *, malformed: bool) -> None:
    """The first exception comes out, the others go to the hook."""
    unraisable: list[type[BaseException]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))
        raised: list[type[BaseException]] = []
        try:
            assert kernel.handle.handle_packet(buffer) == callback.count
        except (Failure, nfq.MalformedMessageError) as error:
            raised.append(type(error))
    failures: list[type[BaseException]] = [Failure] * callback.failures
    assert raised + unraisable == failures + [nfq.MalformedMessageError] * malformed
    assert len(raised) == bool(failures or malformed)


@given(
    anything,
    st.sampled_from(sorted(BUFFERS)),
    st.lists(st.sampled_from(WAYS), min_size=1, max_size=5),
)
# Answers that nothing asked for, with the sequence numbers of verdicts that may find nothing.
@example(make_refusal(1, make_request(MSG_VERDICT_BATCH, 1, 0, 0)), "bytes", ["accept"])
@example(make_refusal(2, make_request(MSG_VERDICT, 1, 0, 0xFFFFFFFE)), "bytes", ["accept"])
# A byte would be left over behind an attribute of which a short buffer has no more than the header.
@example(
    struct.pack("=IHHIII", 69, MSG_PACKET, 0, 0, 0, 0)
    + attribute(NFQA_PACKET_HDR, bytes(7))
    + struct.pack("=HH", 33, 0),
    "bytes",
    ["accept"],
)
def test_any_bytes(data: bytes, kind: str, ways: list[str]) -> None:
    """A packet is dispatched with its attributes and gets one verdict; other bytes are refused."""
    buffer = BUFFERS[kind](data) if data else data
    read, malformed = read_buffer(bytes(memoryview(buffer).cast("B")))
    callback = Callback(
        [message for message in read if message.values and message.number in QUEUES], ways
    )
    told: list[tuple[int | None, int]] = []
    with PlayedKernel() as kernel:
        kernel.handle.on_verdict_error = lambda number, packet_id, _: told.append(
            (number, packet_id)
        )
        with kernel.answering():
            for number in QUEUES:
                kernel.handle.create_queue(number, callback)
        kernel.received()
        hand_in(kernel, buffer, callback, malformed=malformed)
        callback.ledger.read(kernel.received())
        assert callback.ledger.waiting == [entry for _, _, entry in callback.kept]
        check_views(callback, buffer)
        overwrite(buffer)
        check_kept(callback, kernel)
        check_stats(kernel, read, callback)
    assert told == [(message.number, message.packet_id) for message in read if message.refusal]
