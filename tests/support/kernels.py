# SPDX-License-Identifier: GPL-2.0-or-later
"""The same traffic through the real kernel's queues and through the fake one's."""

import contextlib
import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple
from unittest.mock import patch

from netns import PORT, TIMEOUT, down, iptables, sender, up, without_net_admin

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel, KernelPacket, Rule

HOST = "127.0.0.1"
FIRST_PORT = 40_000  # where the first datagram comes from; each has its own, to be told apart
LOOPBACK_INDEX = 1
SO_RCVMARK = 75  # since Linux 5.19


class Outcome(NamedTuple):
    """What became of a datagram."""

    passed: bool
    data: bytes = b""
    mark: int = 0


DROPPED = Outcome(False)


def udp_packet(number: int, data: bytes, ident: int = 0) -> bytes:
    """The datagram of that number as Linux sends it; each has another identification."""
    host = socket.inet_aton(HOST)
    length = 28 + len(data)
    packet = bytearray(
        struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, ident, 0x4000, 64, 17, 0, host, host)
        + struct.pack("!HHHH", FIRST_PORT + number, PORT, length - 20, 1)
        + data
    )
    nfq.update_checksums(packet)
    return bytes(packet)


class Network(ABC):
    """Datagrams that a rule sends to a queue. What they have become is told by their numbers."""

    name: str
    overruns: bool  # whether the kernel can report them

    def __init__(self) -> None:
        self.handles: list[nfq.NetfilterQueueHandle] = []
        self._sent = 0

    @abstractmethod
    def rule(self, number: int = 1, *, bypass: bool = False, match_mark: int | None = None) -> None:
        """The rule that all further datagrams meet."""

    @abstractmethod
    def rules(self, words: list[str], rules: list[Rule]) -> None:
        """The rules that all further datagrams meet, as iptables has them and as the fake does."""

    def open(self, *, netns: None = None, fd: None = None) -> nfq.NetfilterQueueHandle:
        """Opens a handle on this kernel, and notes it."""
        handle = self._open()
        self.handles.append(handle)
        return handle

    @abstractmethod
    def _open(self) -> nfq.NetfilterQueueHandle: ...

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Has programs open their handles here."""
        with patch.object(nfq, "open", self.open):
            yield

    def send(self, *data: bytes, mark: int = 0) -> None:
        """Sends datagrams."""
        for datagram in data:
            self._send(self._sent, datagram, mark)
            self._sent += 1

    @abstractmethod
    def _send(self, number: int, data: bytes, mark: int) -> None: ...

    def verdicts(self) -> int:
        """How many the handles have given."""
        return sum(handle.stats().verdicts for handle in self.handles)

    def wait_for_verdicts(self, count: int) -> None:
        """Until as many have been given by programs that run meanwhile."""
        end = time.monotonic() + TIMEOUT
        while self.verdicts() < count:
            assert time.monotonic() < end
            time.sleep(0.001)

    @abstractmethod
    def outcomes(self) -> list[Outcome]:
        """What became of the datagrams that were sent, in their order; one that waits is dropped.

        To be called once, at the end.
        """

    @abstractmethod
    def flush(self) -> None:
        """Has the kernel forget what waits."""

    @abstractmethod
    def unprivileged(self) -> AbstractContextManager[None]:
        """The test has no CAP_NET_ADMIN for the length of the block."""

    @abstractmethod
    def close(self) -> None: ...


class RealNetwork(Network):
    """UDP over loopback, in the namespace of the test."""

    name = "real"
    overruns = True

    def __init__(self) -> None:
        super().__init__()
        self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind((HOST, PORT))
        self._receiver.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        self._receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._receiver.settimeout(TIMEOUT)
        self._senders: list[socket.socket] = []

    def rule(self, number: int = 1, *, bypass: bool = False, match_mark: int | None = None) -> None:
        match = "" if match_mark is None else f"-m mark --mark {match_mark}"
        option = "--queue-bypass" if bypass else ""
        ports = f"--sport {FIRST_PORT}: --dport {PORT}"
        iptables("-t raw -F OUTPUT")
        iptables(
            f"-t raw -A OUTPUT -p udp {ports} {match} -j NFQUEUE --queue-num {number} {option}"
        )

    def rules(self, words: list[str], rules: list[Rule]) -> None:
        for rule in words:
            iptables(f"-t mangle -A OUTPUT -p udp --sport {FIRST_PORT}: --dport {PORT} {rule}")

    def _open(self) -> nfq.NetfilterQueueHandle:
        with patch.object(nfq, "open", nfq._ext.open):
            return nfq.open()

    def _send(self, number: int, data: bytes, mark: int) -> None:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._senders.append(sender)  # closed, it might take its packet along
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sender.bind((HOST, FIRST_PORT + number))
        sender.sendto(data, (HOST, PORT))

    def outcomes(self) -> list[Outcome]:
        outcomes = [DROPPED] * self._sent
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sentinel:
            sentinel.bind((HOST, FIRST_PORT - 1))  # no rule is about it
            sentinel.sendto(b"", (HOST, PORT))
        while True:
            data, ancillary, _, (_, port) = self._receiver.recvmsg(1 << 16, 100)
            if port == FIRST_PORT - 1:
                return outcomes
            ((_, _, mark),) = ancillary
            outcomes[port - FIRST_PORT] = Outcome(True, data, *struct.unpack("=I", mark))

    def flush(self) -> None:
        down("lo")
        up("lo")

    def unprivileged(self) -> AbstractContextManager[None]:
        return without_net_admin()

    def close(self) -> None:
        for sock in (self._receiver, *self._senders):
            sock.close()


class FakeNetwork(Network):
    """The fake kernel, and the same datagrams."""

    name = "fake"
    overruns = False

    def __init__(self) -> None:
        super().__init__()
        self.kernel = FakeKernel()
        self._packets: list[KernelPacket] = []

    def rule(self, number: int = 1, *, bypass: bool = False, match_mark: int | None = None) -> None:
        self._rules = [Rule(queue=number, bypass=bypass, match_mark=match_mark)]

    def rules(self, words: list[str], rules: list[Rule]) -> None:
        self._rules = rules

    def _open(self) -> nfq.NetfilterQueueHandle:
        return self.kernel.open()

    def _send(self, number: int, data: bytes, mark: int) -> None:
        uid, gid = sender()
        packet = self.kernel.enqueue(
            udp_packet(number, data),
            rules=self._rules,
            mark=mark,
            outdev=LOOPBACK_INDEX,
            uid=uid,
            gid=gid,
        )
        self._packets.append(packet)

    def outcomes(self) -> list[Outcome]:
        return [
            Outcome(True, packet.payload[28:], packet.mark) if packet.passed else DROPPED
            for packet in self._packets
        ]

    def flush(self) -> None:
        self.kernel.flush(*self._packets)

    @contextlib.contextmanager
    def unprivileged(self) -> Iterator[None]:
        self.kernel.net_admin = False
        yield
        self.kernel.net_admin = True

    def close(self) -> None:
        self.kernel.close()


KERNELS: dict[str, Callable[[], Network]] = {"real": RealNetwork, "fake": FakeNetwork}


def readable(handle: nfq.NetfilterQueueHandle) -> bool:
    """Whether something comes within a time that is long for the fake kernel's thread."""
    return bool(select.select([handle], [], [], TIMEOUT)[0])
