# SPDX-License-Identifier: GPL-2.0-or-later
"""A test that plays the kernel, message by message; libnetfilterqueue.testing builds them."""

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

from netns import TIMEOUT, background
from queues import Packet, Queue

import libnetfilterqueue as nfq
from libnetfilterqueue._netlink import attribute
from libnetfilterqueue.testing._messages import (
    MSG_CONFIG,
    MSG_PACKET,
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    NFQA_CAP_LEN,
    NFQA_CGROUP_CLASSID,
    NFQA_CT,
    NFQA_CT_INFO,
    NFQA_EXP,
    NFQA_HWADDR,
    NFQA_IFINDEX_INDEV,
    NFQA_L2HDR,
    NFQA_MARK,
    NFQA_PACKET_HDR,
    NFQA_PAYLOAD,
    NFQA_PRIORITY,
    NFQA_SECCTX,
    NFQA_SKB_INFO,
    NFQA_TIMESTAMP,
    NFQA_UID,
    NFQA_VERDICT_HDR,
    NFQA_VLAN,
    NLA_TYPE_MASK,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_NOOP,
    SentVerdict,
    aligned,
    attributes_of,
    error_message,
    message,
    messages_in,
    packet_message,
    read_attributes,
)

__all__ = [
    "MSG_CONFIG",
    "MSG_PACKET",
    "MSG_VERDICT",
    "MSG_VERDICT_BATCH",
    "NFQA_CAP_LEN",
    "NFQA_CGROUP_CLASSID",
    "NFQA_CT",
    "NFQA_CT_INFO",
    "NFQA_EXP",
    "NFQA_HWADDR",
    "NFQA_IFINDEX_INDEV",
    "NFQA_L2HDR",
    "NFQA_MARK",
    "NFQA_PACKET_HDR",
    "NFQA_PAYLOAD",
    "NFQA_PRIORITY",
    "NFQA_SECCTX",
    "NFQA_SKB_INFO",
    "NFQA_TIMESTAMP",
    "NFQA_UID",
    "NFQA_VERDICT_HDR",
    "NFQA_VLAN",
    "NLA_TYPE_MASK",
    "NLMSG_DONE",
    "NLMSG_ERROR",
    "NLMSG_NOOP",
    "NLM_F_ACK",
    "NLM_F_REQUEST",
    "PlayedKernel",
    "SentVerdict",
    "aligned",
    "asks",
    "attribute",
    "attributes_of",
    "error_message",
    "message",
    "messages_in",
    "packet_message",
    "read_attributes",
]


def asks(request: bytes) -> bool:
    """Whether a message asks for an answer."""
    (flags,) = struct.unpack_from("=H", request, 6)
    return bool(flags & NLM_F_ACK)


class PlayedKernel:
    """An open handle and the other end of its descriptor, where the test plays the kernel."""

    def __init__(self, kind: socket.SocketKind = socket.SOCK_DGRAM) -> None:
        self.socket, handles = socket.socketpair(socket.AF_UNIX, kind)
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
            while received := self.socket.recv(1 << 18, socket.MSG_DONTWAIT):
                for data in messages_in(received):
                    self._received.append(data)
                    if self._error is not None and asks(data):
                        self.answer(data, self._error)

    def answer(self, request: bytes, error: int = 0) -> None:
        """Answers a request."""
        # A handle that closes does not wait for the answer to its last marker.
        with contextlib.suppress(ConnectionRefusedError, BrokenPipeError):
            self.socket.send(error_message(error, request))

    def request(self) -> bytes:
        """The next request that asks for an answer; it has none yet."""
        while True:
            for data in messages_in(self.socket.recv(1 << 18)):
                if asks(data):
                    return data

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

    def create_queue(
        self,
        number: int,
        callback: Callable[[Packet], None],
        default: nfq.Verdict = nfq.NF_DROP,
    ) -> Queue:
        """Has the handle create a queue."""
        with self.answering():
            queue = self.handle.create_queue(
                number, callback, mode=nfq.NFQNL_COPY_PACKET, default_verdict=default
            )
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
