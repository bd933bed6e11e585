# SPDX-License-Identifier: GPL-2.0-or-later
"""A handle, seen from the fake kernel: its end of a socket pair, and the receive buffer."""

import _socket  # gevent leaves it as it is
import contextlib
import fcntl
import select
import socket
import struct
import termios
from collections import deque
from collections.abc import Iterator
from typing import Any

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext
from libnetfilterqueue.testing import _messages as nl
from libnetfilterqueue.testing._original import original

SNDBUF = 1 << 24  # bytes; where less is allowed, the handle waits for us, and we for it
SO_SNDBUFFORCE = 32
RCVBUF = 212_992  # bytes of an untouched receive buffer: Linux's rmem_default
SKB, SKB_TAIL = 256, 320  # struct sk_buff, struct skb_shared_info
SPARE = 64  # room for attributes that a packet does not have
LINEAR_MAX = 1 << 14  # bytes of a message that are copied; of longer ones pages are shared
PEEK = socket.MSG_PEEK | socket.MSG_TRUNC | socket.MSG_DONTWAIT  # tells a datagram's length
SIOCINQ = termios.FIONREAD
EPOLLIN, EPOLLOUT = 1, 4
MORE, ALL = nl.message(nl.NLMSG_NOOP), nl.message(nl.NLMSG_DONE)  # shorter than other messages


def cost(size: int) -> int:
    """What a message of that size takes of the kernel's receive buffers: its skb's truesize."""
    data = size + SPARE + SKB_TAIL
    return SKB + (1 << (data - 1).bit_length() if size <= LINEAR_MAX else data)


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Two sockets that keep messages apart, and each of which learns of the other's end."""
    return _socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def in_pair(sock: _socket.socket, request: int = termios.TIOCOUTQ) -> int:
    """Bytes that wait at the other end, with what the system adds; or here."""
    (size,) = struct.unpack("=i", fcntl.ioctl(sock, request, bytes(4)))
    return int(size)


TAKEN: dict[int, int] = {}


def taken(size: int) -> int:
    """What a message of that size takes of a pair."""
    if size not in TAKEN:
        TAKEN[size] = measure(size)
    return TAKEN[size]


def measure(size: int) -> int:
    """The same, as the system says."""
    ours, theirs = pair()
    try:
        ours.send(bytes(size))
        return in_pair(ours)
    finally:
        ours.close()
        theirs.close()


class Peer:
    """A handle of the fake kernel's. It ends with the last copy of the handle's descriptor.

    How much room a pair of sockets has is the system's affair, and different for users with
    privileges. What the handle's receive buffer has room for is therefore counted here, in the
    kernel's units; what finds no room in the pair stays here until there is some.
    """

    def __init__(self, portid: int, opener: str) -> None:
        self.portid = portid
        self._opener = opener
        self.ended = False
        self._ours, self._theirs = pair()
        for sock in (self._ours, self._theirs):
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SNDBUF)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF)
        self._rcvbuf = RCVBUF
        self._room = self._ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._unread: deque[int] = deque()  # the sizes of messages in the pair, oldest first
        self._taken = 0  # what they take of it
        self._outgoing: deque[bytes] = deque()  # the messages behind them
        self._cost = 0  # what all of them take of the receive buffer
        self._announced = False  # the handle knows that there is more
        self._congested = False

    def __str__(self) -> str:
        return f"the handle that was opened at {self._opener}"

    def open(self) -> nfq.NetfilterQueueHandle:
        """The handle, once; its end of the pair is its own then."""
        try:
            return _ext.open(fd=self._theirs.fileno())
        finally:
            self._theirs.close()

    def fileno(self) -> int:
        """Our descriptor."""
        return self._ours.fileno()

    def receive(self) -> Iterator[bytes]:
        """The datagrams that the handle has sent; notes its end behind the last one."""
        with contextlib.suppress(BlockingIOError):
            while not self.ended:
                size = self._receive_into(bytearray(1), PEEK)  # 0 at the end too
                if size == 0 and self._hung_up():
                    self.ended = True
                else:
                    datagram = bytearray(max(1, size))
                    self._receive_into(datagram, socket.MSG_DONTWAIT)
                    yield bytes(datagram[:size])

    def _receive_into(self, buffer: bytearray, flags: int) -> int:
        """Receives a datagram. Raises BlockingIOError."""
        try:
            return self._ours.recv_into(buffer, len(buffer), flags)
        except ConnectionResetError:  # the handle left something unread, which is told once
            return self._ours.recv_into(buffer, len(buffer), flags)

    def _hung_up(self) -> bool:
        """Whether the handle is closed and no datagram with something in it is left."""
        poll: Any = original("select", "poll")()
        poll.register(self._ours, select.POLLIN)
        return any(events & select.POLLHUP for _, events in poll.poll(0)) and not in_pair(
            self._ours, SIOCINQ
        )

    def set_rcvbuf(self, size: int) -> None:
        """The handle says how large its receive buffer is."""
        self._rcvbuf = size

    def send_packet(self, message: bytes) -> bool:
        """Whether a packet has room in the receive buffer.

        Once one had none, the kernel sends no others until the program has read all.
        """
        waiting = self._waiting()
        full = waiting + cost(len(message)) > self._rcvbuf
        self._congested = waiting > 0 and (self._congested or full)
        if not self._congested:
            self.answer(message)
        return not self._congested

    def _waiting(self) -> int:
        """Bytes of the receive buffer that are taken by what the handle has not read."""
        left = in_pair(self._ours)
        while self._taken > left:
            size = self._unread.popleft()
            self._taken -= taken(size)
            self._cost -= cost(size) if size != len(MORE) else 0
        return self._cost

    def answer(self, message: bytes) -> None:
        """Sends a message, whether it has room or not."""
        self._outgoing.append(message)
        self._cost += cost(len(message))
        self.pay()

    def pay(self) -> None:
        """Puts into the pair what it has room for; says where there is more, and where no more."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._outgoing and self._has_room(len(self._outgoing[0])):
                self._put(self._outgoing[0])
                self._outgoing.popleft()
            if bool(self._outgoing) is not self._announced:
                self._put(ALL if self._announced else MORE)
                self._announced = not self._announced

    def _has_room(self, size: int) -> bool:
        """For a message of that size, and behind it for one that says whether there is more."""
        waiting = in_pair(self._ours)
        return not waiting or waiting + taken(size) + taken(len(MORE)) <= self._room

    def _put(self, message: bytes) -> None:
        self._ours.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self._unread.append(len(message))
        self._taken += taken(len(message))

    @property
    def events(self) -> int:
        """What to wait for."""
        return EPOLLIN | EPOLLOUT if self._outgoing or self._announced else EPOLLIN

    def close(self) -> None:
        """The handle can't be configured any more."""
        self._ours.close()
