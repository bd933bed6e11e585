# SPDX-License-Identifier: GPL-2.0-or-later
"""The fixture nfqueue on the real kernel: libnetfilterqueue.testing.RealKernel."""

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kernels import udp_packet
from netns import TIMEOUT
from pytests import run_passing, run_pytest
from queues import Handle, Packet, accept, process_until
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

import libnetfilterqueue as nfq
from libnetfilterqueue import aio
from libnetfilterqueue.testing import (
    FakeKernel,
    Kernel,
    RealKernel,
    Refusal,
    Rule,
    UnavailableError,
)

DATA = udp_packet(0, b"data", 1)
IPV6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2) / b"data")
NETLINK_NETFILTER = 12

both = pytest.mark.parametrize("nfqueue", ["fake", "real"], indirect=True)


@pytest.fixture
def handle(nfqueue_real: Kernel) -> Iterator[Handle]:
    """An open handle of the kernel."""
    with nfq.open() as handle:
        yield handle


def bind(nfqueue: Kernel, number: int) -> int:
    """What the system says to another program of the namespace that binds a number: an errno."""
    namespace = nfqueue._queues._namespace  # type: ignore[attr-defined]
    netlink = namespace.netlink(NETLINK_NETFILTER)
    with contextlib.closing(netlink), nfq._ext.open(fd=netlink.fileno()) as other:
        try:
            other.create_queue(number, accept)
        except OSError as error:
            return error.errno or 0
        return 0


# It is the real one


def test_bound(nfqueue_real: Kernel, handle: Handle) -> None:
    """The queues are the system's own: another socket of the namespace finds them bound."""
    assert bind(nfqueue_real, 1) == 0
    queue = handle.create_queue(1, accept)
    assert nfqueue_real.name == "real"
    assert list(nfqueue_real.queues) == [1]
    assert bind(nfqueue_real, 1) == errno.EPERM
    queue.destroy()
    assert bind(nfqueue_real, 1) == 0
    handle.create_queue(1, accept)
    os.close(handle.detach())
    assert nfqueue_real.queues == {}
    assert bind(nfqueue_real, 1) == 0


def test_completed(nfqueue_real: Kernel) -> None:
    """The kernel completes a packet as it does each one of its own."""
    header = bytearray(DATA)
    header[4:6] = header[10:12] = b"\0\0"  # identification and checksum
    header[6] = 0  # it may be fragmented
    seen = []

    def callback(packet: Packet) -> None:
        seen.append(packet.get_payload())
        assert (packet.outdev, packet.hook) == (1, nfq.NF_INET_LOCAL_OUT)
        packet.accept()

    packet = nfqueue_real.decide(callback, header)
    assert seen == [packet.payload]
    assert packet.payload[4:6] != b"\0\0"
    checked = bytearray(packet.payload)
    nfq.update_checksums(checked)
    assert checked == packet.payload


def test_unknown_flag(handle: Handle) -> None:
    """What the kernel refuses is refused as it does it."""
    with pytest.raises(OSError, match="flag") as refused:
        handle.create_queue(1, accept, flags=1 << 5)
    assert refused.value.errno in {errno.EOPNOTSUPP, errno.EINVAL}  # since Linux 7.1 the latter


def test_refused(nfqueue_real: Kernel, handle: Handle, request: pytest.FixtureRequest) -> None:
    """A verdict that the kernel refuses is its refusal, and the program gets it."""
    kept: list[Packet] = []
    told: list[int | None] = []
    handle.on_verdict_error = lambda number, packet_id, error: told.append(error.errno)
    handle.create_queue(1, kept.append)
    packet = nfqueue_real.enqueue(DATA)
    handle.process()
    nfqueue_real.flush(packet)
    assert (packet.passed, packet.why) == (False, "flush() dropped it")
    kept.pop().accept()
    assert nfqueue_real.refusals == [Refusal(1, 1, errno.ENOENT)]
    process_until(handle, lambda: told)
    assert told == [errno.ENOENT]
    with pytest.raises(AssertionError, match="refused: a verdict on packet 1 of queue 1: ENOENT"):
        nfqueue_real.check(allow_open=True)
    request.applymarker(pytest.mark.nfqueue(allow_refused=True))


# Packets


@pytest.mark.parametrize("hook", [nfq.NF_INET_LOCAL_OUT, nfq.NF_INET_POST_ROUTING])
@pytest.mark.parametrize("payload", [DATA, IPV6], ids=["IPv4", "IPv6"])
def test_verdicts(nfqueue_real: Kernel, payload: bytes, hook: nfq.Hook) -> None:
    """What a verdict makes of a packet is seen behind all rules."""

    def callback(packet: Packet) -> None:
        assert packet.get_payload() == payload
        assert (packet.mark, packet.priority, packet.hook) == (5, 6, hook)
        changed = bytearray(packet.payload)
        changed[-4:] = b"DATA"
        nfq.update_checksums(changed)
        packet.set_verdict(nfq.NF_ACCEPT, mark=7, priority=8, payload=changed)

    packet = nfqueue_real.decide(callback, payload, mark=5, priority=6, hook=hook)
    assert (packet.decided, packet.passed) == (True, True)
    assert (packet.mark, packet.priority) == (7, 8)
    assert (packet.payload[:20], packet.payload[-4:]) == (payload[:20], b"DATA")


def test_largest(nfqueue_real: Kernel) -> None:
    """A packet that is longer than what a queue tells of it passes whole."""
    largest = udp_packet(0, bytes(65507), 1)
    packet = nfqueue_real.decide(accept, largest)
    assert (packet.passed, packet.payload) == (True, largest)


def test_many(nfqueue_real: Kernel, handle: Handle) -> None:
    """More packets wait than one socket has room for; one batch verdict releases them."""
    kept: list[Packet] = []
    queue = handle.create_queue(1, kept.append, maxlen=2000)
    packets = nfqueue_real.enqueue_all([DATA] * 1500)
    while handle.process():
        pass
    assert nfqueue_real.queues[1].waiting == 1500
    queue.set_verdict_batch(nfq.NF_DROP, 700)
    queue.set_verdict_batch(nfq.NF_ACCEPT, 1500, mark=3)
    assert [packet.passed for packet in packets] == [False] * 700 + [True] * 800
    assert {packet.mark for packet in packets[700:]} == {3}
    assert all(packet.decided for packet in packets)


def test_full(nfqueue_real: Kernel, handle: Handle, request: pytest.FixtureRequest) -> None:
    """A full queue and a full receive buffer drop packets, or let them pass, and say so."""
    request.applymarker(pytest.mark.nfqueue(allow_undecided=True))
    handle.create_queue(1, accept, maxlen=1)
    handle.create_queue(2, accept, flags=nfq.NFQA_CFG_F_FAIL_OPEN, maxlen=0)
    waits, full = nfqueue_real.enqueue_all([DATA] * 2)
    opened = nfqueue_real.enqueue(DATA, 2)
    assert (waits.passed, full.passed, opened.passed) == (None, False, True)
    assert full.why == "queue 1 was full: maxlen is 1"
    assert nfqueue_real.queues[1].queue_dropped == 1
    with nfq.open() as other:
        other.rcvbuf = 4096
        other.create_queue(3, accept)
        other.create_queue(4, accept, flags=nfq.NFQA_CFG_F_FAIL_OPEN)
        large = udp_packet(0, bytes(1400), 1)
        lost = nfqueue_real.enqueue_all([large] * 5, 3)[-1]
        passed = nfqueue_real.enqueue(large, 4)
    assert (lost.passed, passed.passed) == (False, True)
    assert lost.why == passed.why == "the handle's receive buffer was full"


def test_ways(nfqueue_real: Kernel) -> None:
    """A packet goes from queue to queue, and back to its rule, also when others have come."""
    with nfq.open() as one, nfq.open() as two:
        kept: list[Packet] = []
        one.create_queue(1, lambda packet: packet.requeue(2))
        two.create_queue(2, kept.append)
        first = nfqueue_real.enqueue(DATA, match_mark=0)
        one.process()
        assert two.process(timeout=TIMEOUT) == 1
        assert (first.number, first.id, first.passed) == (2, 1, None)
        other = nfqueue_real.enqueue(DATA, 2)  # by another rule
        two.process(timeout=TIMEOUT)
        kept[0].repeat()
        assert (first.number, first.id) == (1, 2)
        one.process()
        two.process(timeout=TIMEOUT)
        kept[2].repeat(mark=1)
        assert (first.passed, first.mark) == (True, 1)
        kept[1].drop()
        assert other.passed is False
    assert [verdict.number for verdict in first.verdicts] == [1, 2, 1, 2]


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "no IP": ("whole IP packets, and this is none: b'data'", {"payload": b"data"}),
    "nothing": ("whole IP packets", {"payload": b""}),
    "cut": ("whole IP packets", {"payload": DATA[:-1]}),
    "cut IPv6": ("whole IP packets", {"payload": IPV6 + b"1"}),
    "short header": ("whole IP packets", {"payload": b"\x44" + DATA[1:]}),
    "user": ("the real kernel gives packets their uid itself", {"uid": 1}),
    "connection": ("gives packets their conntrack itself", {"conntrack": {}}),
    "family": ("gives packets their family itself", {"family": socket.AF_INET6}),
    "a list of rules": ("rules on the real kernel are one", {"rules": [Rule(queue=1)] * 2}),
    "a rule with state": ("rules on the real kernel are one", {"rules": [Rule(limit=1, queue=1)]}),
    "hook": ("must be NF_INET_LOCAL_OUT or NF_INET_POST_ROUTING", {"hook": nfq.NF_INET_FORWARD}),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(nfqueue_real: Kernel, name: str) -> None:
    """What the real kernel does not send is told, with what would be right."""
    message, arguments = WRONG[name]
    enqueue: Callable[..., object] = nfqueue_real.enqueue
    with pytest.raises(ValueError, match=re.escape(message)):
        enqueue(**{"payload": DATA, **arguments})


def test_own_attributes(nfqueue_real: Kernel) -> None:
    """What the kernel gives a packet anyway may be named."""
    packet = nfqueue_real.decide(
        accept, DATA, outdev=1, family=socket.AF_INET, hw_protocol=0x0800, mark=1
    )
    assert packet.passed


def test_last_number(handle: Handle) -> None:
    """The number behind all rules is the kit's own."""
    with pytest.raises(PermissionError):
        handle.create_queue(0xFFFF, accept)


@both
def test_capture(nfqueue: Kernel, tmp_path: Path) -> None:
    """A capture is sent on either kernel."""
    path = tmp_path / "capture.pcap"
    wrpcap(str(path), [Ether() / IP(DATA), Ether() / IPv6(IPV6)])
    with nfq.open() as handle:
        handle.create_queue(1, accept)
        packets = nfqueue.enqueue_capture(path)
        handle.process()
    assert [packet.payload for packet in packets] == [DATA, IPV6]
    assert all(packet.passed for packet in packets)


# Programs


@both
def test_thread(nfqueue: Kernel) -> None:
    """A program in a thread is waited for, on either kernel."""

    def program() -> None:
        with nfq.open() as handle:
            handle.create_queue(1, accept)
            handle.process(timeout=TIMEOUT)

    thread = threading.Thread(target=program)
    thread.start()
    nfqueue.listening(1).wait()
    assert nfqueue.enqueue(DATA).wait().passed
    thread.join()
    assert nfqueue.queues == {}


@both
async def test_serve(nfqueue: Kernel) -> None:
    """So is one in asyncio and uvloop."""

    async def handler(packet: Packet) -> None:
        await asyncio.sleep(0)
        packet.accept(mark=1)

    async with aio.open_queue(1) as stream:
        serving = asyncio.create_task(aio.serve(stream, handler))
        packets = nfqueue.enqueue_all([DATA] * 3)
        assert [(await packet).mark for packet in packets] == [1, 1, 1]
        stream.stop()
        await serving


@both
def test_without_privileges(nfqueue: Kernel, request: pytest.FixtureRequest) -> None:
    """A program without privileges is refused, and its packet waits on."""
    request.applymarker(pytest.mark.nfqueue(allow_refused=True, allow_undecided=True))
    with nfq.open() as handle:
        handle.create_queue(1, accept)
        packet = nfqueue.enqueue(DATA)
        nfqueue.net_admin = False
        with pytest.raises(PermissionError, match="CAP_NET_ADMIN"):
            handle.create_queue(2, accept)
        handle.process()
        assert packet.passed is None
        assert nfqueue.refusals == [Refusal(1, 1, errno.EPERM)]
        nfqueue.net_admin = True


PATCHED = f"""
from gevent import monkey
monkey.patch_all()
import gevent
import libnetfilterqueue as nfq
from libnetfilterqueue import green
from libnetfilterqueue.testing import RealKernel

def program():
    with green.open_queue(1) as stream:
        for packet in stream:
            packet.accept()

with RealKernel() as kernel, kernel.patched():
    running = gevent.spawn(program)
    kernel.listening().wait()
    assert kernel.enqueue({DATA!r}).wait().passed
    running.kill()
    kernel.check()
"""


@pytest.mark.gevent
def test_patched(tmp_path: Path) -> None:
    """It works under gevent's monkey-patching."""
    program = tmp_path / "program.py"
    program.write_text(PATCHED)
    subprocess.run([sys.executable, "-W", "error", program], check=True, timeout=TIMEOUT)


# Its life


def entries(directory: str) -> int:
    return len(list(Path(directory).iterdir()))


def test_nothing_left() -> None:
    """Neither a descriptor nor a process is left, and a second close does nothing."""
    before = entries("/proc/self/fd")
    for _ in range(3):
        with RealKernel() as kernel, kernel.open() as handle:
            handle.create_queue(1, accept)
            kernel.enqueue(DATA)
            kernel.enqueue(IPV6)
        kernel.close()
    assert entries("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_child_of_fork() -> None:
    """A child of fork that lives on does not keep it from closing."""
    reading, writing = os.pipe()
    with RealKernel():
        child = os.fork()
        if child == 0:  # pragma: no cover (another process)
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    os.close(writing)
    os.close(reading)
    assert os.waitpid(child, 0)[1] == 0


def test_holder_killed() -> None:
    """Without the program that holds the namespace, the sockets go on, and it can be closed."""
    with RealKernel() as kernel, kernel.open() as handle:
        holder = kernel._queues._namespace._holder  # type: ignore[attr-defined]
        os.kill(holder, signal.SIGKILL)
        os.waitid(os.P_PID, holder, os.WEXITED | os.WNOWAIT)
        handle.create_queue(1, accept)
        packet = kernel.enqueue(DATA)
        handle.process()
        assert packet.passed
        with pytest.raises(OSError, match="Broken pipe"):
            kernel.open()


TESTS = f"""
import os
from pathlib import Path

import pytest

import libnetfilterqueue as nfq

DATA = {DATA!r}


@pytest.mark.parametrize("nfqueue", ["fake", "real"], indirect=True)
def test_both(nfqueue):
    assert nfqueue.decide(nfq.Packet.accept, DATA).decided


def test_real(nfqueue_real):
    assert not nfqueue_real.decide(nfq.Packet.drop, DATA).passed
    assert nfqueue_real.name == "real"
"""
LEAVING = f"""
import libnetfilterqueue as nfq


def broken(packet):
    raise RuntimeError("a bug")


def test_real(nfqueue_real):
    with nfq.open() as handle:
        packet = nfqueue_real.enqueue({DATA!r})
        assert not packet.passed


def test_failing(nfqueue_real):
    packet = nfqueue_real.enqueue({DATA!r})
    assert packet.passed
"""
WITHOUT_NAMESPACES = """
echo 0 > /proc/sys/user/max_user_namespaces
echo 0 > /proc/sys/user/max_net_namespaces
exec "$@"
"""


def test_fixture(tmp_path: Path) -> None:
    """A user without any capability runs the same test on both."""
    (tmp_path / "test_program.py").write_text(TESTS)
    assert "3 passed" in run_passing(tmp_path)


def test_skipped(tmp_path: Path) -> None:
    """Where the system gives no namespace, the tests are skipped, and the reason is told."""
    (tmp_path / "test_program.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-e", "-c", WITHOUT_NAMESPACES, "sh", *command, tmp_path],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 2 skipped" in done.stdout
    assert (
        "nfqueue_real: no network namespace of the test's own: No space left on device. "
        "Without root it needs user namespaces (sysctls user.max_user_namespaces, "
    ) in done.stdout


def test_strict(tmp_path: Path) -> None:
    """It is as strict as the other fixture."""
    (tmp_path / "test_program.py").write_text(LEAVING)
    done = run_pytest(tmp_path)
    assert re.search(
        r"ERROR at teardown of test_real _+\n"
        r"nfqueue: this is left of the test:\n"
        r"  unbound: a packet of queue 1 \(b.E.*\): nobody has bound queue 1\n"
        r"If that is meant to be: @pytest.mark.nfqueue\(allow_unbound=True\)\n",
        done.stdout,
    ), done.stdout
    assert re.search(r"-+ nfqueue -+\n.*\n  unbound:", done.stdout), done.stdout


@pytest.mark.nfqueue(allow_open=True)
def test_wrong_parameter(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Another parameter is an error that names those that there are."""
    text = TESTS.replace('["fake", "real"]', '["kernel"]')
    (tmp_path / "test_program.py").write_text(text)
    assert 'the parameter of nfqueue must be "fake" or "real", not ' in run_pytest(tmp_path).stdout


def test_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it lacks is an UnavailableError that says what."""
    monkeypatch.setattr(sys, "executable", "/nowhere")
    with pytest.raises(UnavailableError, match="/nowhere can't be run: No such file"):
        RealKernel()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UnavailableError, match="/bin/false does not run"):
        RealKernel()


def test_names() -> None:
    """A kernel says which one it is."""
    with FakeKernel() as fake:
        assert fake.name == "fake"
