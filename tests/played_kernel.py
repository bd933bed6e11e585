# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink messages as the kernel builds them, and a test that plays the kernel."""

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

from netns import TIMEOUT, background
from queues import Packet, Queue

import libnetfilterqueue as nfq

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3
NLM_F_ACK = 4
MSG_PACKET, MSG_VERDICT, MSG_CONFIG, MSG_VERDICT_BATCH = 0x300, 0x301, 0x302, 0x303

NFQA_PACKET_HDR = 1
NFQA_VERDICT_HDR = 2
NFQA_MARK = 3
NFQA_TIMESTAMP = 4
NFQA_IFINDEX_INDEV = 5
NFQA_HWADDR = 9
NFQA_PAYLOAD = 10
NFQA_CT = 11
NFQA_CT_INFO = 12
NFQA_CAP_LEN = 13
NFQA_SKB_INFO = 14
NFQA_UID = 16
NFQA_SECCTX = 18
NFQA_VLAN = 19
NFQA_L2HDR = 20
NFQA_PRIORITY = 21
NFQA_CGROUP_CLASSID = 22
NLA_TYPE_MASK = 0x3FFF


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded for the next one."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes = b"", sequence: int = 0, flags: int = 0) -> bytes:
    """A netlink message, not padded."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def error_message(error: int, request: bytes) -> bytes:
    """The kernel's answer to a request; error 0 says that it was executed."""
    (sequence,) = struct.unpack_from("=I", request, 8)
    return message(NLMSG_ERROR, struct.pack("=i", -error) + request[:16], sequence)


def packet_message(
    packet_id: int = 1, payload: bytes = b"payload", *attributes: bytes, number: int = 1
) -> bytes:
    """A queued packet; like the kernel's, its payload comes last and is not padded."""
    header = struct.pack("!IHB", packet_id, 0x0800, nfq.NF_INET_LOCAL_OUT)
    body = struct.pack("!BBH", socket.AF_INET, 0, number) + attribute(NFQA_PACKET_HDR, header)
    last = struct.pack("=HH", 4 + len(payload), NFQA_PAYLOAD) + payload
    return message(MSG_PACKET, body + b"".join(attributes) + last)


def read_attributes(data: bytes) -> dict[int, bytes]:
    """The values of netlink attributes one behind the other, in their order."""
    attributes: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        length, kind = struct.unpack_from("=HH", data, position)
        attributes[kind & NLA_TYPE_MASK] = data[position + 4 : position + length]
        position += length + -length % 4
    return attributes


def attributes_of(message: bytes) -> dict[int, bytes]:
    """The attributes of a message of a queue."""
    return read_attributes(message[20:])


def aligned(data: bytes) -> bytes:
    """A message padded, so that another one can follow in the buffer."""
    return data + bytes(-len(data) % 4)


def messages_in(data: bytes) -> Iterator[bytes]:
    """The messages of a datagram."""
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from("=I", data, position)
        yield data[position : position + length]
        position += length + -length % 4


class SentVerdict(NamedTuple):
    """A verdict as it was sent to the kernel."""

    number: int
    packet_id: int
    verdict: int
    batch: bool

    @classmethod
    def read(cls, data: bytes) -> Self:
        (kind,) = struct.unpack_from("=H", data, 4)
        (number,) = struct.unpack_from("!H", data, 18)
        (first,) = struct.unpack_from("=H", data, 22)
        assert first == NFQA_VERDICT_HDR
        verdict, packet_id = struct.unpack_from("!II", data, 24)
        return cls(number, packet_id, verdict, kind == MSG_VERDICT_BATCH)


class PlayedKernel:
    """An open handle and the other end of its descriptor, where the test plays the kernel."""

    def __init__(self) -> None:
        self.socket, handles = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with handles:
            self.handle = nfq.open(fd=handles.fileno())
        self._received: list[bytes] = []
        self._reading = threading.Lock()
        self._error: int | None = None  # what requests are answered with, while they are

    @contextlib.contextmanager
    def answering(self, error: int = 0) -> Iterator[None]:
        """Answers all requests of the block that ask for an answer."""
        before, self._error = self._error, error
        try:
            with contextlib.nullcontext() if before is not None else self._attending():
                yield
        finally:
            self._error = before

    @contextlib.contextmanager
    def _attending(self) -> Iterator[None]:
        """Reads what comes at once, in a thread of its own."""
        stop, stopped = socket.socketpair()
        with stop, stopped:
            attending = background(self._attend, stopped)
            try:
                yield
            finally:
                stop.shutdown(socket.SHUT_RDWR)
                attending.result(TIMEOUT)

    def _attend(self, stopped: socket.socket) -> None:
        while stopped not in select.select([self.socket, stopped], [], [])[0]:
            self._receive()

    def _receive(self) -> None:
        with self._reading, contextlib.suppress(BlockingIOError):
            while True:
                for data in messages_in(self.socket.recv(1 << 18, socket.MSG_DONTWAIT)):
                    self._received.append(data)
                    self._answer(data)

    def _answer(self, request: bytes) -> None:
        (flags,) = struct.unpack_from("=H", request, 6)
        if self._error is not None and flags & NLM_F_ACK:
            # A handle that closes does not wait for the answer to its last marker.
            with contextlib.suppress(ConnectionRefusedError):
                self.socket.send(error_message(self._error, request))

    def received(self) -> list[bytes]:
        """What the handle has sent since the last look."""
        self._receive()
        with self._reading:
            received, self._received = self._received, []
        return received

    @staticmethod
    def read(messages: list[bytes]) -> list[SentVerdict]:
        """The verdicts among messages."""
        kinds = (MSG_VERDICT, MSG_VERDICT_BATCH)
        return [
            SentVerdict.read(data)
            for data in messages
            if struct.unpack_from("=H", data, 4)[0] in kinds
        ]

    def verdicts(self) -> list[SentVerdict]:
        """The verdicts that the handle has sent since the last look."""
        return self.read(self.received())

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """Takes nothing for the length of the block: sending finds no room."""
        with socket.socket(fileno=os.dup(self.handle.fd())) as filling:
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    filling.send(b"", socket.MSG_DONTWAIT)
                    sent += 1
        yield
        for _ in range(sent):
            self.socket.recv(1)

    def create_queue(self, number: int, callback: Callable[[Packet], object]) -> Queue:
        """Has the handle create a queue."""
        with self.answering():
            queue = self.handle.create_queue(number, callback, mode=nfq.NFQNL_COPY_PACKET)
        self.received()
        return queue

    def close(self) -> None:
        with self.answering():
            self.handle.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
