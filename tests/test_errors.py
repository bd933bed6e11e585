# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors explain: their messages name the call, the value, and the remedy."""

import ctypes
import errno
import os
import platform
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import pytest
from netns import TIMEOUT, UdpPair, background, private_namespace, without_net_admin
from played_kernel import PlayedKernel, error_message, packet_message
from queues import Handle, Packet, Queue, accept, process_until
from statuses import visible

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
TOO_LARGE = 1 << 32
UNKNOWN_FLAG = (errno.EOPNOTSUPP, errno.EINVAL)  # since Linux 7.1 the latter


# Wrong types and ranges


class Objects(NamedTuple):
    """What the calls of the table are made on."""

    handle: Handle
    queue: Queue
    packet: Packet


@pytest.fixture
def objects(handle: Handle, udp: UdpPair) -> Objects:
    kept: list[Packet] = []
    queue = handle.create_queue(1, kept.append, mode=COPY)
    udp.send(b"data")
    handle.process(timeout=None)
    return Objects(handle, queue, kept[0])


# Typed so that a call can be wrong: what it is made on, and with what value.
Call: TypeAlias = Callable[[Any, Any], object]
OPEN: Any = nfq.open


def set_default(queue: Any, value: object) -> None:
    queue.default_verdict = value


def set_rcvbuf(handle: Any, value: object) -> None:
    handle.rcvbuf = value


RANGES: list[tuple[str, Call, list[Any]]] = [
    ("bind_pf", lambda on, value: on.handle.bind_pf(value), [-1, 1 << 16, TOO_LARGE]),
    ("unbind_pf", lambda on, value: on.handle.unbind_pf(value), [-1, 1 << 16, TOO_LARGE]),
    (
        "create_queue",
        lambda on, value: on.handle.create_queue(value, accept),
        [-1, 1 << 16, 1 << 64],
    ),
    ("create_queue", lambda on, value: on.handle.create_queue(9, accept, mode=value), [-1, 3, 256]),
    (
        "create_queue",
        lambda on, value: on.handle.create_queue(9, accept, mode=COPY, range=value),
        [-1, TOO_LARGE],
    ),
    (
        "create_queue",
        lambda on, value: on.handle.create_queue(9, accept, maxlen=value),
        [-1, TOO_LARGE],
    ),
    (
        "create_queue",
        lambda on, value: on.handle.create_queue(9, accept, flags=value),
        [-1, TOO_LARGE],
    ),
    (
        "create_queue",
        lambda on, value: on.handle.create_queue(9, accept, default_verdict=value),
        [-1, 6, TOO_LARGE],
    ),
    ("process", lambda on, value: on.handle.process(value), [-1]),
    ("rcvbuf", lambda on, value: set_rcvbuf(on.handle, value), [-1, 1 << 31, 1 << 64]),
    ("process", lambda on, value: on.handle.process(timeout=value), [-1, -0.5, float("nan")]),
    ("set_mode", lambda on, value: on.queue.set_mode(value, 0), [-1, 3, 258, TOO_LARGE]),
    ("set_mode", lambda on, value: on.queue.set_mode(COPY, value), [-1, TOO_LARGE]),
    ("set_flags", lambda on, value: on.queue.set_flags(value, 0), [-1, TOO_LARGE]),
    ("set_flags", lambda on, value: on.queue.set_flags(0, value), [-1, TOO_LARGE]),
    ("set_maxlen", lambda on, value: on.queue.set_maxlen(value), [-1, TOO_LARGE]),
    ("default_verdict", lambda on, value: set_default(on.queue, value), [-1, 6, 0x10000]),
    ("set_verdict", lambda on, value: on.packet.set_verdict(value), [-1, 6, 0x10001, TOO_LARGE]),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, value), [-1, TOO_LARGE]),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, mark=value), [-1, TOO_LARGE]),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, priority=value), [-1, TOO_LARGE]),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, vlan=(value, 0)), [-1, 1 << 16]),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, vlan=(0, value)), [-1, 1 << 16]),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, ct_mark=value), [-1, TOO_LARGE]),
    (
        "set_verdict",
        lambda on, value: on.packet.set_verdict(1, ct_labels=bytes(value)),
        [0, 17],
    ),
    (
        "set_verdict_batch",
        lambda on, value: on.queue.set_verdict_batch(value, 1),
        [-1, 6, 0x10001, TOO_LARGE],
    ),
    (
        "set_verdict_batch",
        lambda on, value: on.queue.set_verdict_batch(1, value),
        [-1, TOO_LARGE],
    ),
    (
        "set_verdict_batch",
        lambda on, value: on.queue.set_verdict_batch(1, 1, mark=value),
        [-1, TOO_LARGE],
    ),
    (
        "set_verdict_batch",
        lambda on, value: on.queue.set_verdict_batch(1, 1, priority=value),
        [-1, TOO_LARGE],
    ),
    ("accept", lambda on, value: on.packet.accept(value), [-1, TOO_LARGE]),
    ("repeat", lambda on, value: on.packet.repeat(mark=value), [-1, TOO_LARGE]),
    ("requeue", lambda on, value: on.packet.requeue(value), [-1, 1 << 16]),
    ("NF_QUEUE_NR", lambda on, value: nfq.NF_QUEUE_NR(value), [-1, 1 << 16]),
]

TYPES: list[tuple[str, Call]] = [
    ("open", lambda on, value: OPEN(fd=value)),
    ("bind_pf", lambda on, value: on.handle.bind_pf(value)),
    ("unbind_pf", lambda on, value: on.handle.unbind_pf(value)),
    ("create_queue", lambda on, value: on.handle.create_queue(value, accept)),
    ("create_queue", lambda on, value: on.handle.create_queue(9, value)),
    ("create_queue", lambda on, value: on.handle.create_queue(9, accept, mode=value)),
    ("create_queue", lambda on, value: on.handle.create_queue(9, accept, range=value)),
    ("create_queue", lambda on, value: on.handle.create_queue(9, accept, maxlen=value)),
    ("create_queue", lambda on, value: on.handle.create_queue(9, accept, flags=value)),
    ("create_queue", lambda on, value: on.handle.create_queue(9, accept, default_verdict=value)),
    ("handle_packet", lambda on, value: on.handle.handle_packet(value)),
    ("process", lambda on, value: on.handle.process(value)),
    ("process", lambda on, value: on.handle.process(timeout=value)),
    ("rcvbuf", lambda on, value: set_rcvbuf(on.handle, value)),
    ("set_mode", lambda on, value: on.queue.set_mode(value, 0)),
    ("set_mode", lambda on, value: on.queue.set_mode(COPY, value)),
    ("set_flags", lambda on, value: on.queue.set_flags(value, 0)),
    ("set_flags", lambda on, value: on.queue.set_flags(0, value)),
    ("set_maxlen", lambda on, value: on.queue.set_maxlen(value)),
    ("default_verdict", lambda on, value: set_default(on.queue, value)),
    ("set_verdict", lambda on, value: on.packet.set_verdict(value)),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, value)),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, priority=value)),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, vlan=value)),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, vlan=(1, value))),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, vlan=(1, 2, value))),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, ct_mark=value)),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, ct_labels=value)),
    ("set_verdict", lambda on, value: on.packet.set_verdict(1, l2_header=value)),
    ("set_verdict_batch", lambda on, value: on.queue.set_verdict_batch(value, 1)),
    ("set_verdict_batch", lambda on, value: on.queue.set_verdict_batch(1, value)),
    ("set_verdict_batch", lambda on, value: on.queue.set_verdict_batch(1, 1, mark=value)),
    ("set_verdict_batch", lambda on, value: on.queue.set_verdict_batch(1, 1, priority=value)),
    ("accept", lambda on, value: on.packet.accept(value)),
    ("repeat", lambda on, value: on.packet.repeat(value)),
    ("requeue", lambda on, value: on.packet.requeue(value)),
    ("NF_QUEUE_NR", lambda on, value: nfq.NF_QUEUE_NR(value)),
]

ARGUMENTS: list[tuple[str, Callable[[Any], object]]] = [
    ("open", lambda on: OPEN(1)),
    ("open", lambda on: OPEN(colour=1)),
    ("bind_pf", lambda on: on.handle.bind_pf()),
    ("create_queue", lambda on: on.handle.create_queue()),
    ("create_queue", lambda on: on.handle.create_queue(9)),
    ("create_queue", lambda on: on.handle.create_queue(9, accept, 2)),
    ("create_queue", lambda on: on.handle.create_queue(9, accept, colour=2)),
    ("create_queue", lambda on: on.handle.create_queue(9, accept, number=9)),
    ("handle_packet", lambda on: on.handle.handle_packet()),
    ("handle_packet", lambda on: on.handle.handle_packet(b"", b"")),
    ("process", lambda on: on.handle.process(1, 2, 3)),
    ("process", lambda on: on.handle.process(colour=1)),
    ("fd", lambda on: on.handle.fd(1)),
    ("close", lambda on: on.handle.close(1)),
    ("set_mode", lambda on: on.queue.set_mode()),
    ("set_mode", lambda on: on.queue.set_mode(1, 2, 3)),
    ("set_flags", lambda on: on.queue.set_flags(1)),
    ("set_maxlen", lambda on: on.queue.set_maxlen()),
    ("destroy", lambda on: on.queue.destroy(1)),
    ("set_verdict", lambda on: on.packet.set_verdict()),
    ("set_verdict", lambda on: on.packet.set_verdict(1, 2, 3)),
    ("set_verdict", lambda on: on.packet.set_verdict(1, colour=1)),
    ("set_verdict_batch", lambda on: on.queue.set_verdict_batch(1)),
    ("set_verdict_batch", lambda on: on.queue.set_verdict_batch(1, 2, 3, 4)),
    ("drop", lambda on: on.packet.drop(1)),
    ("requeue", lambda on: on.packet.requeue()),
]


def cases(table: Iterable[tuple[str, Call, list[Any]]]) -> list[Any]:
    """A parameter for each value that each call gets."""
    return [
        pytest.param(name, call, value, id=f"{name} {number} {value!r}")
        for number, (name, call, values) in enumerate(table)
        for value in values
    ]


def message_of(error: type[Exception], objects: Objects, call: Callable[[], object]) -> str:
    """What the failing call says; it must have changed nothing."""
    before = objects.handle.stats()
    with pytest.raises(error) as raised:
        call()
    after = objects.handle.stats()
    assert (after.verdicts, after.packets) == (before.verdicts, before.packets)
    assert not objects.queue.destroyed
    assert objects.packet.verdict is None
    return str(raised.value)


@pytest.mark.parametrize(("name", "call", "value"), cases(RANGES))
def test_out_of_range(objects: Objects, name: str, call: Call, value: float) -> None:
    """A number that is out of range is a ValueError that names call and number."""
    message = message_of(ValueError, objects, lambda: call(objects, value))
    assert name in message
    assert repr(value) in message


@pytest.mark.parametrize(
    ("name", "call", "value"), cases((name, call, ["text", 1.5j]) for name, call in TYPES)
)
def test_wrong_type(objects: Objects, name: str, call: Call, value: object) -> None:
    """A value of a wrong type is a TypeError that names the call, and the value or its type."""
    message = message_of(TypeError, objects, lambda: call(objects, value))
    assert name in message
    assert repr(value) in message or type(value).__name__ in message


@pytest.mark.parametrize(
    ("name", "call"),
    [
        pytest.param(name, call, id=f"{name} {number}")
        for number, (name, call) in enumerate(ARGUMENTS)
    ],
)
def test_wrong_arguments(objects: Objects, name: str, call: Callable[[Any], object]) -> None:
    """Missing, surplus and unknown arguments are a TypeError that names the call."""
    assert name in message_of(TypeError, objects, lambda: call(objects))


def test_floats_are_no_integers(objects: Objects) -> None:
    """Numbers that would lose a fraction are refused."""
    call: Any = objects.queue.set_maxlen
    with pytest.raises(TypeError, match="set_maxlen"):
        call(1.0)


def test_default_verdict_can_not_be_deleted(objects: Objects) -> None:
    """A queue's default verdict can't be deleted."""
    with pytest.raises((AttributeError, TypeError)):
        del objects.queue.default_verdict
    assert objects.queue.default_verdict == nfq.NF_DROP


def test_nothing_is_bound_after_an_error(handle: Handle) -> None:
    """A queue whose options were refused is not bound, neither here nor in the kernel."""
    for options in ({"mode": 3}, {"range": -1}, {"maxlen": -1}, {"default_verdict": 99}):
        call: Any = handle.create_queue
        with pytest.raises(ValueError, match="create_queue"):
            call(1, accept, **options)
    with nfq.open() as other:
        other.create_queue(1, accept)


# What the kernel refuses


def test_refused_flag(handle: Handle) -> None:
    """A flag that the kernel refuses is an OSError that names it, and nothing stays bound."""
    flag = 1 << 31
    with pytest.raises(OSError, match=r"create_queue.*1") as raised:
        handle.create_queue(1, accept, flags=flag)
    assert raised.value.errno in UNKNOWN_FLAG
    with nfq.open() as other:
        queue = other.create_queue(1, accept)
        with pytest.raises(OSError, match="set_flags") as raised:
            queue.set_flags(flag, flag)
        assert raised.value.errno in UNKNOWN_FLAG
        assert str(flag) in str(raised.value) or hex(flag) in str(raised.value)
    handle.create_queue(1, accept)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOMEM, errno.EOPNOTSUPP, errno.EPERM])
def test_refused_configuration(error: int) -> None:
    """The error has the number that the kernel refuses a request with."""
    with PlayedKernel() as kernel:
        queue = kernel.create_queue(1, accept)
        calls: list[tuple[str, Callable[[], object]]] = [
            ("bind_pf", lambda: kernel.handle.bind_pf(2)),
            ("set_mode", lambda: queue.set_mode(COPY, 100)),
            ("set_flags", lambda: queue.set_flags(1, 1)),
            ("set_maxlen", lambda: queue.set_maxlen(1)),
        ]
        for name, call in calls:
            with kernel.answering(error), pytest.raises(OSError, match=name) as raised:
                call()
            assert raised.value.errno == error
            assert os.strerror(error) in str(raised.value)


def test_packet_before_the_refusal() -> None:
    """Packets that another thread has kept of a refused queue go with the queue."""
    kept: list[Packet] = []
    with PlayedKernel() as kernel:
        creating = background(kernel.handle.create_queue, 1, kept.append, mode=COPY)
        while not (requests := kernel.received()):
            pass
        for packet_id in (1, 2):
            kernel.socket.send(packet_message(packet_id))
        process_until(kernel.handle, lambda: len(kept) == 2)
        with kernel.answering(errno.EOPNOTSUPP):
            kernel.socket.send(error_message(errno.EOPNOTSUPP, requests[0]))
            with pytest.raises(OSError, match="create_queue"):
                creating.result(TIMEOUT)
        assert kept[0].queue.destroyed
        with pytest.raises(nfq.ClosedError, match="queue 1 is destroyed"):
            kept.pop().accept()
        kept.clear()
        assert kernel.verdicts() == []
        stats = kernel.handle.stats()
        assert (stats.packets, stats.verdicts, stats.defaulted) == (2, 0, 2)


def test_without_privilege() -> None:
    """Without CAP_NET_ADMIN a PermissionError names call, value and what is needed."""
    calls: list[tuple[str, Callable[[Handle], object]]] = [
        ("bind_pf.*10", lambda handle: handle.bind_pf(10)),
        ("unbind_pf.*10", lambda handle: handle.unbind_pf(10)),
        ("create_queue.*4711", lambda handle: handle.create_queue(4711, accept)),
    ]
    for pattern, call in calls:
        with without_net_admin(), nfq.open() as handle:
            with pytest.raises(PermissionError, match=pattern) as raised:
                call(handle)
            assert raised.value.errno == errno.EPERM
            assert "CAP_NET_ADMIN" in str(raised.value)


def test_privilege_dropped_later(handle: Handle, udp: UdpPair) -> None:
    """A program that drops the capability still receives; its verdicts and its queue fail."""
    queue = handle.create_queue(1, accept, mode=COPY)
    udp.send(b"1", b"2")
    with without_net_admin():
        with pytest.raises(PermissionError, match=r"set_mode.*CAP_NET_ADMIN"):
            queue.set_mode(COPY, 100)
        assert handle.process(timeout=None) == 2
        assert handle.process() == 0
    assert handle.stats().verdict_errors >= 1
    assert udp.arrivals() == []


def check_taken(error: OSError, number: int) -> None:
    assert re.search(rf"create_queue.*\b{number}\b", str(error))
    assert "bound" in str(error)
    assert "CAP_NET_ADMIN" not in str(error)
    assert error.errno in (errno.EBUSY, errno.EPERM)


def test_taken_by_another_handle(handle: Handle) -> None:
    """A number that another handle or this one has bound is an OSError that says so."""
    handle.create_queue(4711, accept)
    with nfq.open() as other:
        for who in (other, handle):
            with pytest.raises(OSError, match="4711") as raised:
                who.create_queue(4711, accept)
            check_taken(raised.value, 4711)


PROGRAM = """
import sys, libnetfilterqueue
handle = libnetfilterqueue.open()
handle.create_queue(4711, print)
print("bound", flush=True)
sys.stdin.read()
"""


def owner_named(owner: str) -> str:
    """What the error says of the owner where the kernel's table is visible, and where it is not."""
    if visible():
        return rf"is bound by another {owner} \(port id \d+\)$"
    return "is bound by another handle, of this program or of another one$"


@pytest.mark.parametrize("kind", ["handle", "destroyed", "socket"])
def test_taken_by_this_program(handle: Handle, kind: str) -> None:
    """The error says that this program itself has the number, whatever holds it."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        sock.bind((0, 0))
        with nfq.open(fd=sock.fileno()) as adopting:
            queue = (adopting if kind == "socket" else handle).create_queue(1, accept)
            if kind == "destroyed":  # without the privilege it stays bound in the kernel
                with without_net_admin(), pytest.raises(PermissionError, match="destroy"):
                    queue.destroy()
            with (
                nfq.open() as other,
                pytest.raises(PermissionError, match=owner_named("handle of this program")),
            ):
                other.create_queue(1, accept)


def test_taken_by_another_program(handle: Handle) -> None:
    """The error says that another program has the number; when that has ended it is free.

    A socket of ours in another namespace has the port id that the program's has in this one.
    """
    command = [sys.executable, "-P", "-W", "ignore", "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == b"bound\n"
        with private_namespace():
            elsewhere = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            elsewhere.bind((program.pid, 0))
        with elsewhere, pytest.raises(OSError, match=owner_named("program")) as raised:
            handle.create_queue(4711, accept)
        check_taken(raised.value, 4711)
        assert not visible() or str(program.pid) in str(raised.value)
        program.stdin.close()
        assert program.wait(TIMEOUT) == 0
    handle.create_queue(4711, accept)


SOCKET_CALL = {"x86_64": 41, "aarch64": 198, "riscv64": 198, "armv7l": 281, "ppc64le": 326}
NETLINK_NETFILTER = 12
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000


def refuse_netfilter_sockets(error: int) -> None:
    """Has the calling thread get the error for such sockets, for the rest of its life."""
    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    program = [
        (load, 0, 0, 0),  # the system call
        (equal, 0, 5, SOCKET_CALL[platform.machine()]),
        (load, 0, 0, 16),  # its first argument
        (equal, 0, 3, socket.AF_NETLINK),
        (load, 0, 0, 32),  # its third
        (equal, 0, 1, NETLINK_NETFILTER),
        (give, 0, 0, SECCOMP_RET_ERRNO | error),
        (give, 0, 0, SECCOMP_RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    filter_program = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_program, zero, zero) == 0


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (errno.EPROTONOSUPPORT, "the kernel lacks nfnetlink.*nfnetlink_queue"),
        # The filters of systemd's RestrictAddressFamilies= and of containers; SELinux.
        (errno.EAFNOSUPPORT, "a sandbox allows no AF_NETLINK sockets.*RestrictAddressFamilies="),
        (errno.EPERM, "a sandbox.*allows no netlink sockets"),
        (errno.EACCES, "a sandbox.*allows no netlink sockets"),
    ],
)
def test_no_socket(error: int, remedy: str) -> None:
    """If there are no such sockets, the error says who refuses them."""

    def open_without() -> None:
        refuse_netfilter_sockets(error)
        with pytest.raises(OSError, match=rf"open\(\).*: {remedy}") as raised:
            nfq.open()
        assert raised.value.errno == error
        assert ("nfnetlink" in str(raised.value)) == (error == errno.EPROTONOSUPPORT)
        assert "namespace" not in str(raised.value)

    background(open_without).result(TIMEOUT)


# Descriptors that are none


def test_bad_descriptor() -> None:
    """`fd` has to be a descriptor."""
    with pytest.raises(OSError, match=r"open.*999999") as raised:
        nfq.open(fd=999999)
    assert raised.value.errno == errno.EBADF


def test_adopted_descriptor(udp: UdpPair) -> None:
    """`fd` is copied: the caller's own descriptor stays the caller's, whatever the handle does."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        sock.bind((0, 0))
        with nfq.open(fd=sock.fileno()) as handle:
            assert handle.fd() != sock.fileno()
            assert not os.get_inheritable(handle.fd())
            handle.create_queue(1, accept, mode=COPY)
            udp.send(b"data")
            assert handle.process(timeout=None) == 1
        assert sock.fileno() >= 0
        assert sock.getsockname()[0] != 0
    assert udp.arrivals() == [b"data"]
