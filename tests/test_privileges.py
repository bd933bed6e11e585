# SPDX-License-Identifier: GPL-2.0-or-later
"""What needs CAP_NET_ADMIN, and what happens to a program that has lost it."""

import errno
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
from capabilities import effective, only
from netns import (
    CAP_NET_ADMIN,
    PORT,
    QUEUED_PORT,
    TIMEOUT,
    UdpPair,
    background,
    iptables,
    queue_rule,
    without_net_admin,
)
from played_kernel import (
    MSG_VERDICT,
    NFQA_VERDICT_HDR,
    NLMSG_ERROR,
    PlayedKernel,
    attribute,
    message,
    packet_message,
)
from programs import QUEUE, Program, running
from queues import Handle, Packet, Queue, accept, keeping, process_until

import libnetfilterqueue as nfq

CAPABILITIES = Path(__file__).parent / "support" / "capabilities.py"
PRIVILEGED = Path(__file__).parent / "support" / "privileged.py"
COPY = nfq.NFQNL_COPY_PACKET
VERDICT_HEADER = attribute(NFQA_VERDICT_HDR, struct.pack("!II", nfq.NF_ACCEPT, 7))
OTHER_PORT = 9997  # where datagrams come from that pass through queue 2

Told: TypeAlias = list[tuple[int | None, int, OSError]]


@pytest.fixture
def told(handle: Handle) -> Told:
    """What the handle's on_verdict_error is told."""
    told: Told = []
    handle.on_verdict_error = lambda *refusal: told.append(refusal)
    return told


def release(queue: Queue) -> None:
    """Lets all that waits in the kernel pass."""
    queue.default_verdict = nfq.NF_ACCEPT
    queue.destroy()


# Calls


def test_what_needs_nothing(udp: UdpPair) -> None:
    """Opening, options, reading and closing need no capability."""
    with without_net_admin(), nfq.open() as handle:
        handle.no_enobufs = True
        assert handle.no_enobufs
        handle.rcvbuf = 50_000
        assert handle.rcvbuf == 100_000
        udp.send(b"data")  # nobody listens
        assert handle.process() == 0
    assert udp.arrivals() == []


CALLS: dict[str, Callable[[Handle, Queue], object]] = {
    r"bind_pf\(\): family 2": lambda handle, _: handle.bind_pf(socket.AF_INET),
    r"unbind_pf\(\): family 2": lambda handle, _: handle.unbind_pf(socket.AF_INET),
    r"create_queue\(2\)": lambda handle, _: handle.create_queue(2, accept),
    r"set_mode\(2, 0\) of queue 1": lambda _, queue: queue.set_mode(COPY, 0),
    r"set_flags\(1, 1\) of queue 1": lambda _, queue: queue.set_flags(1, 1),
    r"set_maxlen\(9\) of queue 1": lambda _, queue: queue.set_maxlen(9),
    r"destroy\(\) of queue 1": lambda _, queue: queue.destroy(),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(handle: Handle, name: str) -> None:
    """A request without the capability is a PermissionError that names call and capability."""
    queue = handle.create_queue(1, accept, mode=COPY)
    pattern = f"{name}: Operation not permitted: .*CAP_NET_ADMIN"
    with without_net_admin(), pytest.raises(PermissionError, match=pattern) as raised:
        CALLS[name](handle, queue)
    assert raised.value.errno == errno.EPERM


def test_opened_without() -> None:
    """A handle that was opened without the capability is of no use with it, and errors say so."""
    with without_net_admin():
        handle = nfq.open()
    with handle, pytest.raises(PermissionError, match=r"CAP_NET_ADMIN.* when .* opened"):
        handle.create_queue(1, accept)


def test_regained(handle: Handle, udp: UdpPair) -> None:
    """A program that has the capability again goes on as before."""
    queue = handle.create_queue(1, accept, mode=COPY)
    with without_net_admin(), pytest.raises(PermissionError):
        queue.set_maxlen(1)
    queue.set_maxlen(2)
    udp.send(b"1", b"2")
    assert handle.process() == 2
    assert udp.arrivals() == [b"1", b"2"]


# Verdicts


def in_callback(packet: Packet) -> None:
    packet.accept()


def by_default(packet: Packet) -> None:
    pass


def with_payload(packet: Packet) -> None:
    packet.accept(payload=bytes(packet.payload))


def with_mark(packet: Packet) -> None:
    packet.accept(mark=packet.id)


def not_last(packet: Packet) -> None:
    packet.drop() if packet.id == 3 else packet.accept()


@pytest.mark.parametrize("callback", [in_callback, by_default, with_payload, with_mark, not_last])
def test_verdicts_of_a_dispatch(
    handle: Handle, udp: UdpPair, told: Told, callback: Callable[[Packet], None]
) -> None:
    """Verdicts of a dispatch are refused together, counted and reported once; the packets wait."""
    queue = handle.create_queue(1, callback, mode=COPY)
    udp.send(b"1", b"2", b"3")
    with without_net_admin():
        assert handle.process() == 3
        assert handle.process() == 0
    check_told(handle, told, 1)
    assert told[0][1] in (1, 2, 3)
    assert udp.arrivals() == []
    release(queue)
    assert udp.arrivals() == [b"1", b"2", b"3"]


def check_told(handle: Handle, told: Told, count: int) -> None:
    """So many refusals were counted, and told with what is needed."""
    assert handle.stats().verdict_errors == len(told) == count
    for number, _, error in told:
        assert number == 1
        assert isinstance(error, PermissionError)
        assert error.errno == errno.EPERM
        assert "CAP_NET_ADMIN" in str(error)


def one_by_one(packets: list[Packet]) -> None:
    for packet in reversed(packets):
        packet.accept()


def dropped_references(packets: list[Packet]) -> None:
    while packets:
        packets.pop()


def one_batch(packets: list[Packet]) -> None:
    packets[0].queue.set_verdict_batch(nfq.NF_ACCEPT, packets[-1].id)


@pytest.mark.parametrize(
    ("give", "ids"), [(one_by_one, [3, 2, 1]), (dropped_references, [3, 2, 1]), (one_batch, [3])]
)
def test_verdicts_of_kept_packets(
    handle: Handle, udp: UdpPair, told: Told, give: Callable[[list[Packet]], None], ids: list[int]
) -> None:
    """No verdict of a kept packet raises; the next dispatch reports each refusal, with its id."""
    packets = keeping(handle)
    udp.send(b"1", b"2", b"3")
    assert handle.process() == 3
    queue = packets[0].queue
    with without_net_admin():
        give(packets)
        assert told == []
        assert handle.process() == 0
    check_told(handle, told, len(ids))
    assert [packet_id for _, packet_id, _ in told] == ids
    assert udp.arrivals() == []
    release(queue)
    assert udp.arrivals() == [b"1", b"2", b"3"]


def test_callback_that_raises(handle: Handle, udp: UdpPair, told: Told) -> None:
    """A callback's exception comes as ever, and the refusal of the default verdict is reported."""

    def callback(packet: Packet) -> None:
        raise KeyError(packet.id)

    handle.create_queue(1, callback, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"data")
    with without_net_admin():
        with pytest.raises(KeyError):
            handle.process()
        assert handle.process() == 0
    check_told(handle, told, 1)
    assert udp.arrivals() == []


def test_refused_drop_of_another_queue(handle: Handle, udp: UdpPair) -> None:
    """A packet whose verdict was refused behind another queue's isn't released by a batch verdict.

    The kernel names only the first of the verdicts that it refuses together.
    """
    verdicts = [nfq.NF_DROP]

    def callback(packet: Packet) -> None:
        packet.set_verdict(verdicts[-1])

    queue_rule(2, match=f"-p udp --sport {OTHER_PORT}")
    for number in (1, 2):
        handle.create_queue(number, callback, mode=COPY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", OTHER_PORT))
        sender.connect(("127.0.0.1", PORT))
        udp.send(b"no")
        sender.send(b"no")
        with without_net_admin():
            assert handle.process() == 2
        verdicts.append(nfq.NF_ACCEPT)
        for send in (udp.send, udp.send, sender.send, sender.send):
            send(b"yes")
        assert handle.process() == 4
    assert udp.arrivals() == [b"yes"] * 4


def test_other_reasons_concern_their_queue_only() -> None:
    """A refusal for another reason is its own queue's: the others go on with batch verdicts."""
    with PlayedKernel() as kernel:
        for number in (1, 2):
            kernel.create_queue(number, accept)
        refused = message(MSG_VERDICT, struct.pack("!BBH", 0, 0, 1) + VERDICT_HEADER)
        kernel.socket.send(message(NLMSG_ERROR, struct.pack("=i", -errno.ENOMEM) + refused))
        for packet_id in (1, 2):
            kernel.socket.send(packet_message(packet_id, number=2))
        assert kernel.handle.process() == 2
        assert [verdict.batch for verdict in kernel.verdicts()] == [True]


def test_the_sending_thread_counts(handle: Handle, udp: UdpPair, told: Told) -> None:
    """A thread's verdict needs the capability of whichever thread sends it."""
    packets = keeping(handle)
    udp.send(b"1", b"2")
    assert handle.process() == 2
    handle.autoflush = False
    with without_net_admin():
        packets[0].accept()
    background(handle.flush).result(TIMEOUT)
    background(packets[1].accept).result(TIMEOUT)
    with without_net_admin():
        handle.flush()
    assert handle.process() == 0
    check_told(handle, told, 1)
    assert told[0][1] == 2
    assert udp.arrivals() == [b"1"]


def test_a_waiting_thread_needs_it(handle: Handle, udp: UdpPair, told: Told) -> None:
    """A dispatching thread without the capability can't give verdicts, whatever others have."""
    handle.create_queue(1, accept, mode=COPY)

    def body() -> int:
        with without_net_admin():
            return handle.process(timeout=None)

    waiting = background(body)
    udp.send(b"1")
    assert waiting.result(TIMEOUT) == 1
    udp.send(b"2")
    assert handle.process() == 1
    check_told(handle, told, 1)
    assert udp.arrivals() == [b"2"]


# The end


def test_destroy(handle: Handle, udp: UdpPair) -> None:
    """Without the capability a destroyed queue stays bound until the handle is closed."""
    packets: list[Packet] = []
    queue = handle.create_queue(1, packets.append, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"kept")
    assert handle.process() == 1
    with without_net_admin(), pytest.raises(PermissionError, match="closing the handle"):
        queue.destroy()
    assert queue.destroyed
    with pytest.raises(nfq.ClosedError, match="destroyed"):
        packets[0].accept()
    udp.send(b"later")
    assert handle.process() == 0
    assert handle.stats().orphaned == 1
    with nfq.open() as other:
        with pytest.raises(PermissionError, match="bound by another handle"):
            other.create_queue(1, accept)
        handle.close()
        other.create_queue(1, accept, mode=COPY)
    assert udp.arrivals() == []


def test_close(handle: Handle, udp: UdpPair) -> None:
    """Closing raises nothing; the kernel drops what waits, whatever the default, and unbinds."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"kept")
    assert handle.process() == 1
    udp.send(b"unread")
    with without_net_admin():
        handle.close()
    with nfq.open() as other:
        other.create_queue(1, accept, mode=COPY)
        udp.send(b"next")
        process_until(other, lambda: other.stats().packets)
        assert udp.arrivals() == [b"next"]


# Programs


@pytest.fixture
def queued(udp: UdpPair) -> UdpPair:
    """Datagrams that pass through the queue of an example."""
    queue_rule(QUEUE, match=f"-p udp --sport {QUEUED_PORT}", table="mangle")
    iptables("-t raw -F")
    return udp


def passes(program: Program, udp: UdpPair) -> bool:
    """Whether the program sees a datagram and lets it pass."""

    def send() -> None:
        assert program.process.poll() is None, program.output
        udp.send(b"data")
        time.sleep(0.01)

    return udp.arrives(b"data", send) and "Received:" in program.output


@pytest.mark.parametrize(
    "name", ["readme_loop.py", pytest.param("gevent_monkey.py", marks=pytest.mark.gevent)]
)
def test_nothing_else_is_needed(tmp_path: Path, queued: UdpPair, name: str) -> None:
    """CAP_NET_ADMIN alone is enough, given as systemd does, with no_new_privs."""
    with running(tmp_path, name, under=only("net_admin")) as program:
        assert passes(program, queued)
        assert effective(program.process.pid) == 1 << CAP_NET_ADMIN
        program.end(signal.SIGTERM)


def test_everything_else_is_not_enough(tmp_path: Path) -> None:
    """All capabilities except that one lead to a PermissionError that names it."""
    under = ["setpriv", "--bounding-set", "-net_admin"]
    with running(tmp_path, "readme_loop.py", under=under) as program:
        assert program.process.wait(TIMEOUT) == 1
        assert re.search("PermissionError: .*CAP_NET_ADMIN", program.output)


def test_file_capability(tmp_path: Path, queued: UdpPair) -> None:
    """An interpreter whose file has the capability gives it to whoever runs it."""
    directory = tmp_path / "mounted"
    directory.mkdir()
    under = ["unshare", "--mount", sys.executable, CAPABILITIES, directory]
    with running(tmp_path, "readme_loop.py", under=under) as program:
        assert passes(program, queued)
        assert effective(program.process.pid) == 1 << CAP_NET_ADMIN
        program.end(signal.SIGTERM)


def test_file_capability_without_new_privileges(tmp_path: Path) -> None:
    """Under no_new_privs files give no capability."""
    directory = tmp_path / "mounted"
    directory.mkdir()
    under = ["unshare", "--mount", "setpriv", "--no-new-privs"]
    under += [sys.executable, str(CAPABILITIES), str(directory)]
    with running(tmp_path, "readme_loop.py", under=under) as program:
        assert program.process.wait(TIMEOUT) == 1
        assert re.search("PermissionError: .*CAP_NET_ADMIN", program.output)


def attempt(*arguments: object, under: Sequence[str] = (), fds: Sequence[int] = ()) -> str:
    """How it went for the program that tries one thing."""
    command = [*under, sys.executable, PRIVILEGED, *arguments]
    done = subprocess.run(
        [str(word) for word in command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        pass_fds=fds,
    )
    return done.stdout.strip()


def test_descriptor_of_a_privileged_program(handle: Handle) -> None:
    """A program without the capability can't bind queues on a socket of one that has it."""
    fd = os.dup(handle.fd())  # a child of fork has the handle's own closed
    assert attempt("adopt", fd, under=only("net_admin"), fds=[fd]) == "bound"
    refused = attempt("adopt", fd, under=only(), fds=[fd])
    os.close(fd)
    assert re.match("PermissionError: .*CAP_NET_ADMIN", refused)


@pytest.mark.parametrize("privileged", [True, False])
def test_descriptor_of_an_unprivileged_program(privileged: bool) -> None:
    """A socket received from a program that lacked the capability doesn't bind here either."""
    ours, theirs = socket.socketpair()
    under = only("net_admin") if privileged else only()
    with ours, theirs:
        attempt("hand", theirs.fileno(), under=under, fds=[theirs.fileno()])
        _, (fd,), _, _ = socket.recv_fds(ours, 100, 1)
    with socket.socket(fileno=fd) as sock, nfq.open(fd=sock) as handle:
        if privileged:
            handle.create_queue(1, accept)
        else:
            with pytest.raises(PermissionError, match=r"CAP_NET_ADMIN.* when .* opened"):
                handle.create_queue(1, accept)


def test_another_network_namespace() -> None:
    """Entering another network namespace needs CAP_SYS_ADMIN, and the error says so."""
    assert attempt("elsewhere", under=only("sys_admin")) == "opened"
    refused = attempt("elsewhere", under=only("net_admin"))
    assert re.match("PermissionError: .*CAP_SYS_ADMIN", refused)


def test_user_namespace() -> None:
    """Root of a user namespace needs a network namespace that belongs to it."""
    assert re.match("PermissionError: .*CAP_NET_ADMIN", attempt("bind", under=["unshare", "-r"]))
    assert attempt("packets", under=["unshare", "-rn"]) == "[b'data']"
