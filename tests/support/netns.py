# SPDX-License-Identifier: GPL-2.0-or-later
"""Private network namespaces, netfilter rules in them, and bounded traffic through them."""

import contextlib
import ctypes
import fcntl
import getpass
import os
import shlex
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCGIFHWADDR = 0x8927
IFF_UP = 1
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
LINUX_CAPABILITY_VERSION_3 = 0x20080522

PORT = 9999  # where datagrams go
QUEUED_PORT = 9998  # where those come from that the default rule sends through a queue
# Seconds. Nothing takes nearly as long unless it is broken, also on a machine with so much other
# work that programs take ten seconds to start.
TIMEOUT = 60.0
LOOPBACK = {int(socket.AF_INET): "127.0.0.1", int(socket.AF_INET6): "::1"}

T = TypeVar("T")
P = ParamSpec("P")

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(RuntimeError):
    """The machine gives no private network namespace."""


# Namespaces


def _check(result: int, operation: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{operation}: {os.strerror(error)}")


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def _setns(descriptor: int) -> None:
    _check(_libc.setns(descriptor, CLONE_NEWNET), "setns")


def _current() -> int:
    """A descriptor on the calling thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


def isolate() -> None:
    """Moves this process into a network namespace of its own for good, as root of it.

    Without root it becomes the root of a new user namespace. To be called while the process has
    only one thread.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid == 0:
            _unshare(CLONE_NEWNET)
            return
        os.environ.setdefault("LOGNAME", getpass.getuser())  # files are still named after us
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"0 {uid} 1")
        write("/proc/self/gid_map", f"0 {gid} 1")
    except OSError as error:
        raise NamespaceError(
            f"This machine gives no private network namespace ({error}), and nothing is tested "
            "outside of one. Run as root with CAP_SYS_ADMIN, or allow user namespaces (sysctls "
            "user.max_user_namespaces, kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns); in a container: --privileged."
        ) from error


def outside(kind: str, inside: int) -> int | None:
    """The number of our user or group outside of all user namespaces, if we have it."""
    for line in Path(f"/proc/self/{kind}_map").read_text().splitlines():
        first, first_outside, count = map(int, line.split())
        if first <= inside < first + count:
            return first_outside + inside - first
    return None


def sender() -> tuple[int, int]:
    """User and group that packets of ours come with."""
    uid, gid = outside("uid", os.geteuid()), outside("gid", os.getegid())
    assert uid is not None
    assert gid is not None
    return uid, gid


def _make() -> int:
    """A descriptor on a new network namespace, which belongs to our user namespace."""
    before = _current()
    try:
        _unshare(CLONE_NEWNET)
        return _current()
    finally:
        _setns(before)
        os.close(before)


def _make_with_user() -> int:
    """A descriptor on one that belongs to a new user namespace: only a program can make that."""
    command = ["unshare", "--map-root-user", "--net", "sh", "-c", "echo; read line"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=plain_environment()
    ) as program:
        assert program.stdout
        program.stdout.readline()
        descriptor = os.open(f"/proc/{program.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        program.communicate()
    return descriptor


class Namespace:
    """A new network namespace, loopback up. `with` moves the calling thread into it and back.

    With `user` it belongs to a new user namespace, as those that programs without root make.
    """

    def __init__(self, *, user: bool = False) -> None:
        self._left: list[int] = []
        self._descriptor = _make_with_user() if user else _make()
        with self:
            up("lo")

    def __enter__(self) -> Self:
        self._left.append(_current())
        _setns(self._descriptor)
        return self

    def __exit__(self, *exception: object) -> None:
        before = self._left.pop()
        _setns(before)
        os.close(before)

    @property
    def path(self) -> str:
        """A path that stands for the namespace until it is closed."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Gives the namespace up; it goes with its last socket and thread."""
        os.close(self._descriptor)


@contextlib.contextmanager
def private_namespace(*, user: bool = False) -> Iterator[Namespace]:
    """A namespace that the calling thread is in for the length of the block."""
    with contextlib.closing(Namespace(user=user)) as namespace, namespace:
        yield namespace


def without_net_admin() -> contextlib.AbstractContextManager[None]:
    """The calling thread can't use CAP_NET_ADMIN for the length of the block."""
    return without_capability(CAP_NET_ADMIN)


@contextlib.contextmanager
def without_capability(capability: int) -> Iterator[None]:
    """The calling thread can't use that one of the first 32 for the length of the block."""
    header = struct.pack("=Ii", LINUX_CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; twice
    _check(_libc.capget(header, sets), "capget")
    before = bytes(sets)
    (effective,) = struct.unpack_from("=I", before)
    less = struct.pack("=I", effective & ~(1 << capability)) + before[4:]
    _check(_libc.capset(header, less), "capset")
    try:
        yield
    finally:
        _check(_libc.capset(header, before), "capset")


# What the calling thread's namespace is furnished with


def plain_environment() -> dict[str, str]:
    """The environment for programs without the extension: sanitizers are not to judge them."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def tool_environment() -> dict[str, str]:
    """The environment for the system's tools that administer the network."""
    return {
        **plain_environment(),
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "XTABLES_LOCKFILE": "/dev/null",  # nobody else changes the rules of our namespace
    }


def run(command: str) -> str:
    """Runs a command and returns its output."""
    done = subprocess.run(
        shlex.split(command),
        env=tool_environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done.stdout


def iptables(arguments: str, family: int = socket.AF_INET) -> str:
    """Runs iptables, or ip6tables."""
    program = "ip6tables" if family == socket.AF_INET6 else "iptables"
    return run(f"{program} {arguments}")


def queue_rule(
    number: int = 1,
    match: str = f"-p udp --sport {QUEUED_PORT}",
    *,
    chain: str = "OUTPUT",
    table: str = "raw",
    bypass: bool = False,
    family: int = socket.AF_INET,
) -> None:
    """Sends what matches through a queue: unless told otherwise, the datagrams of a `UdpPair`."""
    option = " --queue-bypass" if bypass else ""
    iptables(f"-t {table} -A {chain} {match} -j NFQUEUE --queue-num {number}{option}", family)


class Counter:
    """A rule that counts the packets which match at one point of their way."""

    def __init__(
        self, chain: str, match: str, *, table: str = "filter", target: str | None = None
    ) -> None:
        self._list = f"-t {table} -nvxL {chain}"
        jump = f" -j {target}" if target else ""
        iptables(f"-t {table} -A {chain} {match}{jump}")
        self._position = len(self._rules()) - 1

    def _rules(self) -> list[str]:
        return iptables(self._list).splitlines()[2:]

    @property
    def packets(self) -> int:
        return int(self._rules()[self._position].split()[0])


def _change_flags(interface: str, clear: int, add: int) -> None:
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16s24x", name))
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh22x", name, flags & ~clear | add))


def up(interface: str) -> None:
    """Brings an interface up."""
    _change_flags(interface, 0, IFF_UP)


def down(interface: str) -> None:
    """Takes an interface down: the kernel forgets the queued packets on their way through it."""
    _change_flags(interface, IFF_UP, 0)


def mac(interface: str) -> bytes:
    """An interface's hardware address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFHWADDR, struct.pack("16s24x", interface.encode()))
    return answer[18:24]


def veth(name: str, peer_name: str, peer: Namespace) -> None:
    """Makes a pair of Ethernet devices, the second of them in the namespace `peer`."""
    run(f"ip link add {name} type veth peer name {peer_name} netns {peer.path}")
    up(name)
    with peer:
        up(peer_name)


def sysctl(name: str, value: int) -> None:
    """Sets a variable of /proc/sys/net."""
    write(f"/proc/sys/net/{name}", str(value))


# Traffic


def background(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Calls the function in a thread of its own; `result(TIMEOUT)` fetches what it returned."""
    future: Future[T] = Future()

    def body() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 (raised again by result())
            future.set_exception(error)

    threading.Thread(target=body, name=function.__name__, daemon=True).start()
    return future


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Threads take turns as often as they can. Without the GIL they take none."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        yield
        return
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class UdpPair:
    """A sender whose datagrams the default rule sends through a queue, and their receiver."""

    def __init__(self, family: int = socket.AF_INET, host: str | None = None) -> None:
        host = host or LOOPBACK[family]
        self.receiver = self._socket(family)
        self.receiver.bind((host, PORT))
        self.sender = self._socket(family)
        self.sender.bind((host, QUEUED_PORT))
        self.sender.connect((host, PORT))
        self._sentinel = self._socket(family)  # from a port that no rule is about
        self._sentinel.connect((host, PORT))

    @staticmethod
    def _socket(family: int) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.settimeout(TIMEOUT)
        return sock

    def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.sender.send(payload)

    def recv(self) -> bytes:
        return self.receiver.recv(65536)

    def arrivals(self) -> list[bytes]:
        """What has arrived since the last look, in order."""
        sentinel = b"the end of what arrived so far"
        self._sentinel.send(sentinel)
        return list(iter(self.recv, sentinel))

    def arrives(self, payload: bytes, turn: Callable[[], object]) -> bool:
        """Whether it arrives, sooner or later, while the caller's loop takes its turns."""
        end = time.monotonic() + TIMEOUT
        self.receiver.settimeout(0)
        received = b""
        while received != payload and time.monotonic() < end:
            turn()
            with contextlib.suppress(BlockingIOError):
                received = self.recv()
        self.receiver.settimeout(TIMEOUT)
        return received == payload

    def close(self) -> None:
        for sock in (self.receiver, self.sender, self._sentinel):
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextlib.contextmanager
def tcp_echo(family: int = socket.AF_INET, port: int = PORT) -> Iterator[Future[None]]:
    """Serves one TCP conversation: sends back what it gets, done when the client has finished."""
    with socket.create_server((LOOPBACK[family], port), family=family) as listener:
        listener.settimeout(TIMEOUT)
        served = background(_echo, listener)
        yield served
        served.result(TIMEOUT)


def _echo(listener: socket.socket) -> None:
    conversation, _ = listener.accept()
    with conversation:
        conversation.settimeout(TIMEOUT)
        while data := conversation.recv(65536):
            conversation.sendall(data)


def tcp_exchange(
    data: bytes, family: int = socket.AF_INET, port: int = PORT, timeout: float = TIMEOUT
) -> bytes:
    """Says something to the echo server and returns its answer."""
    with socket.create_connection((LOOPBACK[family], port), timeout) as conversation:
        sent = background(conversation.sendall, data)
        answer = b""
        while len(answer) < len(data):
            answer += conversation.recv(65536) or b"\0" * len(data)
        sent.result(TIMEOUT)
    return answer
