# SPDX-License-Identifier: GPL-2.0-or-later
"""A network namespace of a test's own, in which this process has sockets."""

import _socket  # gevent leaves it as it is
import contextlib
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

from libnetfilterqueue._netlink import attribute
from libnetfilterqueue.testing import _messages as nl
from libnetfilterqueue.testing._original import original
from libnetfilterqueue.testing._real_holder import ANSWER, REQUEST

HOLDER = Path(__file__).with_name("_real_holder.py")
NETLINK_NETFILTER = 12
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
PATIENCE = 60.0  # seconds; longer than a loaded machine needs to start a program
LOOPBACK = 1  # the index of a namespace's loopback
RTM_NEWROUTE = 24
NLM_F_CREATE = 0x400
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, RTA_OIF = 254, 4, 254, 2, 4


class UnavailableError(OSError):
    """The system forbids what a ``RealKernel`` needs, or lacks it. The message says what.

    >>> try:
    ...     RealKernel().close()
    ... except UnavailableError as error:
    ...     print(error)
    """


def errors_in(datagrams: list[bytes]) -> list[int]:
    """The errnos in the kernel's answers to requests; 0 for those that were executed."""
    answers = [message for datagram in datagrams for message in nl.messages_in(datagram)]
    return [nl.read_error(answer) for answer in answers if nl.is_error(answer)]


class Netlink:
    """A netlink socket. The kernel has executed a request, and answered, when it is sent."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)

    def fileno(self) -> int:
        """The descriptor."""
        return self._sock.fileno()

    def ask(self, request: bytes) -> list[bytes]:
        """Sends a datagram, and returns those that are there then."""
        self._sock.send(request)
        return self.read()

    def read(self) -> list[bytes]:
        """The datagrams that are there."""
        datagrams = []
        with contextlib.suppress(BlockingIOError):
            while True:
                datagrams.append(self._sock.recv(1 << 17))
        return datagrams

    def request(self, *messages: bytes) -> None:
        """Has requests executed. Raises OSError for the first that is refused."""
        for error in errors_in(self.ask(b"".join(map(nl.aligned, messages)))):
            if error:
                raise OSError(error, os.strerror(error))

    def close(self) -> None:
        """Closes it."""
        self._sock.close()


class Namespace:
    """The namespace, with a loopback device that takes packets for all addresses."""

    def __init__(self) -> None:
        self._channel, theirs = _socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(PATIENCE)
        self._holder: int | None = None
        try:
            with contextlib.closing(theirs):
                self._holder = spawn_holder(theirs)
            self._check_isolated()
            self._furnish()
        except BaseException:
            self.close()
            raise

    def _check_isolated(self) -> None:
        try:
            answer = self._channel.recv(ANSWER.size)
        except TimeoutError:
            answer = b""
        (error,) = ANSWER.unpack(answer) if answer else (None,)
        if error != 0:
            told = os.strerror(error) if error else f"{sys.executable} does not run"
            raise UnavailableError(
                f"no network namespace of the test's own: {told}. Without root it needs user "
                "namespaces (sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone, "
                "kernel.apparmor_restrict_unprivileged_userns; in a container its seccomp profile)"
            )

    def _furnish(self) -> None:
        with contextlib.closing(self.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
        with contextlib.closing(self.netlink(socket.NETLINK_ROUTE)) as routes:
            routes.request(local_route(socket.AF_INET))
            with contextlib.suppress(OSError):  # it has no IPv6
                routes.request(local_route(socket.AF_INET6))

    def socket(self, family: int, kind: int, protocol: int = 0) -> _socket.socket:
        """A new socket in the namespace. Raises OSError."""
        self._channel.send(REQUEST.pack(family, kind, protocol))
        answer, ancillary, _, _ = self._channel.recvmsg(ANSWER.size, socket.CMSG_SPACE(4))
        (error,) = ANSWER.unpack(answer)
        if error:
            raise OSError(error, os.strerror(error))
        ((_, _, descriptor),) = ancillary
        return _socket.socket(fileno=int.from_bytes(descriptor, sys.byteorder))

    def netlink(self, protocol: int) -> Netlink:
        """A new netlink socket in the namespace."""
        return Netlink(self.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol))

    def close(self) -> None:
        """Ends the program that holds it; it goes with the last of its sockets."""
        with contextlib.suppress(OSError):  # it has ended
            self._channel.send(b"")  # a child of fork may have a copy of this end
        self._channel.close()
        if self._holder is not None:
            original("os", "waitpid")(self._holder, 0)


def spawn_holder(channel: _socket.socket) -> int:
    """Starts the program, with its end of the channel; returns its process id."""
    os.set_inheritable(channel.fileno(), True)
    command = [sys.executable, "-I", "-S", str(HOLDER), str(channel.fileno())]
    try:
        return os.posix_spawn(sys.executable, command, os.environ)
    except OSError as error:
        raise UnavailableError(f"{sys.executable} can't be run: {error.strerror}") from error


def local_route(family: int) -> bytes:
    """Makes all addresses of a family this namespace's own."""
    body = struct.pack(
        "=BBBBBBBBI",
        *(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0),
    ) + attribute(RTA_OIF, struct.pack("=I", LOOPBACK))
    return nl.message(RTM_NEWROUTE, body, family, nl.NLM_F_REQUEST | nl.NLM_F_ACK | NLM_F_CREATE)
