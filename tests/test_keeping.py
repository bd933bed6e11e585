# SPDX-License-Identifier: GPL-2.0-or-later
"""keeping.open(): a socket that outlives the process, because somebody keeps its descriptor."""

import contextlib
import gc
import os
import select
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import IO, Any

import pytest
from netns import TIMEOUT, Namespace, UdpPair, background
from queues import Handle, Packet, accept, accepting, keeping, process_until
from statuses import visible
from test_fork import in_child

import libnetfilterqueue as nfq
from libnetfilterqueue import aio
from libnetfilterqueue.keeping import _notify, _open, _store
from libnetfilterqueue.keeping import open as open_kept
from libnetfilterqueue.keeping._keeper import Keeper
from libnetfilterqueue.keeping._ledger import Ledger
from libnetfilterqueue.testing import FakeKernel


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody has started this process who keeps anything, and no test leaves anything open."""
    for name in ("NOTIFY_SOCKET", "FDSTORE", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)
    yield
    forget_kept()


def forget_kept() -> None:
    """What the package knows is as in a new process."""
    for kept in _open._kept.values():
        kept.close()
    _open._kept.clear()
    _open._open.clear()
    _store._taken.clear()


class Service:
    """A process as its keeper starts it again and again: it has a new environment each time."""

    def __init__(self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keeper = keeper
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("NOTIFY_SOCKET", keeper.address)
        monkeypatch.setenv("FDSTORE", "100")
        monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
        self._passed = range(0)
        self._stop = os.eventfd(0)
        self._listening = background(self._listen)

    def _listen(self) -> None:
        while True:
            ready, _, _ = select.select([self.keeper.fileno(), self._stop], [], [])
            if self._stop in ready:
                return
            self.keeper.listen()

    def restart(self, *, pid: int | None = None) -> None:
        """The process has ended, and the next one is passed what the keeper has."""
        self._end_process()
        names = [stored.name for stored in self.keeper.stored]
        self._monkeypatch.setattr(_store, "FIRST", self._pass_on())
        self._monkeypatch.setenv("LISTEN_PID", str(pid or os.getpid()))
        self._monkeypatch.setenv("LISTEN_FDS", str(len(names)))
        self._monkeypatch.setenv("LISTEN_FDNAMES", ":".join(names))

    def _pass_on(self) -> int:
        """Copies of the descriptors, one behind the other; the first one's number."""
        first = 200
        self._passed = range(first, first + len(self.keeper.stored))
        for number, stored in zip(self._passed, self.keeper.stored, strict=True):
            os.dup2(stored.descriptor, number)
        return first

    def _end_process(self) -> None:
        forget_kept()
        for number in self._passed:
            with contextlib.suppress(OSError):  # it was taken, and so is closed
                os.close(number)
        self._passed = range(0)

    def close(self) -> None:
        self._end_process()
        os.eventfd_write(self._stop, 1)
        self._listening.result(TIMEOUT)
        os.close(self._stop)
        self.keeper.close()


def store_up_to(most: int) -> Callable[[Keeper, str, Iterable[int]], None]:
    """What stores as many descriptors, in place of Keeper's method."""
    store = Keeper._store

    def store_some(keeper: Keeper, name: str, descriptors: Iterable[int]) -> None:
        store(keeper, name, list(descriptors)[: most - len(keeper.stored)])

    return store_some


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """This process, with a keeper."""
    with closing(Service(Keeper(), monkeypatch)) as service:
        yield service


def test_nobody_keeps() -> None:
    """Without a keeper it is a handle as any other, and the name may be opened again."""
    for _ in range(2):
        with open_kept() as handle:
            assert handle.kept is False
            handle.create_queue(1, accept)
    assert _open._kept == {}


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("a b~", "a b~"),
        ("", ""),
        ("n" * 255, "n" * 255),
        ("n" * 256, "stored"),
        ("a:b", "stored"),
        ("a\tb", "stored"),
        ("a\vb", "stored"),
        ("a\x7fb", "stored"),
        ("ä", "stored"),
    ],
)
def test_names(name: str, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that systemd would not take is replaced by its default, and removes nothing."""
    with closing(Keeper()) as keeper, open(os.devnull) as file:
        monkeypatch.setenv("NOTIFY_SOCKET", keeper.address)
        for other in (name, "stored"):
            _notify.notify("FDSTORE=1", f"FDNAME={other}", descriptors=(file.fileno(),))
        keeper.listen()
        assert [kept.name for kept in keeper.stored] == [stored, "stored"]
        _notify.notify("FDSTOREREMOVE=1", f"FDNAME={name}")
        keeper.listen()
        left = ["stored"] if name == stored else ["stored", "stored"]
        assert [kept.name for kept in keeper.stored] == left


def test_other_handles() -> None:
    """No other handle is kept."""
    with nfq.open() as handle:
        assert handle.kept is False
        handle.create_queue(1, accept)
        handle.close(unbind=True)
        with nfq.open() as other:
            other.create_queue(1, accept)


def test_restart(service: Service, udp: UdpPair) -> None:
    """What waits when the process ends is the next one's, read or not, whatever the stream has."""
    handle = open_kept()
    assert handle.kept is True
    packets = keeping(handle)
    udp.send(b"1", b"2")
    process_until(handle, lambda: len(packets) == 2)
    udp.send(b"3")
    packets[1].accept()
    handle.close()
    packets.clear()
    assert udp.arrivals() == [b"2"]
    udp.send(b"4")
    service.restart()
    seen: list[bytes] = []
    with open_kept() as handle:
        assert handle.kept is True
        handle.create_queue(1, accepting(seen), unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(seen) == 3)
        assert udp.arrivals() == seen == [b"3", b"4", b"1"]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("module", "step"), [(_store, "probe"), (_open, "_keep")])
def test_interrupted(
    service: Service, udp: UdpPair, monkeypatch: pytest.MonkeyPatch, module: Any, step: str
) -> None:
    """Where a signal handler's exception ends open(), the next call is as the first one."""
    with monkeypatch.context() as patch:
        patch.setattr(module, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_kept()
    handle = open_kept()
    handle.create_queue(1, accept)
    assert len(service.keeper.stored) == 2
    handle.close()
    udp.send(b"1")
    service.restart()
    with open_kept() as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: handle.stats().packets == 1)
    assert udp.arrivals() == [b"1"]


@pytest.mark.parametrize("forward", [True, False] if visible() else [True])
def test_surplus(service: Service, udp: UdpPair, forward: bool) -> None:
    """Of two sockets under one name, the one that has queues is used, and the other one closed."""
    handle = open_kept()
    handle.create_queue(1, accept)
    handle.close()
    with nfq.open() as other, open_ledger() as ledger:
        _store.store("nfqueue", other.fd(), ledger.fileno())
        assert _notify.await_taken()
    if not forward:
        service.keeper.stored.reverse()
    service.restart()
    before = len(os.listdir("/proc/self/fd"))
    with open_kept() as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
        assert len(os.listdir("/proc/self/fd")) == before + 1  # three of its own, without two
        udp.send(b"1")
        process_until(handle, lambda: handle.stats().packets == 1)
    assert udp.arrivals() == [b"1"]


def open_ledger() -> IO[bytes]:
    return open(Ledger.create(), "rb")


def test_within_the_process(service: Service, udp: UdpPair) -> None:
    """A name that was closed can be opened again in the same process, and its queues taken over."""
    with open_kept() as handle:
        handle.create_queue(1, accept)
    udp.send(b"1")
    with open_kept() as handle:
        seen: list[bytes] = []
        handle.create_queue(1, accepting(seen))
        process_until(handle, lambda: seen)
        with pytest.raises(ValueError, match="'nfqueue' is open in this process"):
            open_kept()
        with open_kept("other") as other:
            other.create_queue(2, accept)
    assert len(service.keeper.stored) == 4


def test_unbind(service: Service, udp: UdpPair) -> None:
    """close(unbind=True) frees the numbers, and the keeper forgets the socket."""
    with open_kept() as handle:
        keeping(handle)
        handle.create_queue(2, accept).destroy()
        handle.close(unbind=True)
    assert _notify.await_taken()
    assert service.keeper.stored == []
    with nfq.open() as other:
        other.create_queue(1, accept)
        other.create_queue(2, accept)
    with open_kept() as again:
        assert again.kept is True


def test_unbind_after_restart(service: Service) -> None:
    """What was passed to the process is not adopted twice: its numbers are other files' by then."""
    with open_kept() as handle:
        handle.create_queue(1, accept)
    service.restart()
    with open_kept() as handle:
        handle.close(unbind=True)
    with open_kept() as again:
        assert again.kept is True
        assert again.unclaimed() == []


def test_socket_dropped(service: Service) -> None:
    """systemd before 246 may drop a socket, and keep the ledger: there is a new pair then."""
    open_kept().close()
    sock, _ = service.keeper.stored
    assert stat.S_ISSOCK(os.fstat(sock.descriptor).st_mode)
    service.keeper.stored.remove(sock)
    os.close(sock.descriptor)
    service.restart()
    with open_kept() as handle:
        assert handle.kept is True
    assert _notify.await_taken()
    assert len(service.keeper.stored) == 2


def test_dropped(service: Service, udp: UdpPair) -> None:
    """A handle that is dropped open leaves its queues too."""
    handle = open_kept()
    handle.create_queue(1, accept)
    del handle
    with pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()
    with nfq.open() as other, pytest.raises(PermissionError, match="bound by another"):
        other.create_queue(1, accept)


def test_not_stored(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper that stores nothing (FileDescriptorStoreMax=0) is found out."""
    monkeypatch.setattr(Keeper, "_store", lambda *_: None)
    with open_kept() as handle:
        assert handle.kept is False


def close_all(descriptors: list[int]) -> None:
    """Closes each of them once, however often it is called."""
    while descriptors:
        os.close(descriptors.pop())


@pytest.mark.parametrize(
    ("variable", "value"), [("FDSTORE", ""), ("FDSTORE", "2"), ("SYSTEMD_EXEC_PID", "1")]
)
def test_not_stored_later(
    service: Service, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """systemd 254 may close what it does not store after it has answered; that is awaited."""
    refused: list[int] = []

    def refuse(_keeper: Keeper, _name: str, descriptors: Iterable[int]) -> None:
        refused.extend(map(os.dup, descriptors))

    def await_taken() -> bool:
        answer = _notify.await_taken()
        background(close_all, refused)
        return answer

    monkeypatch.setattr(Keeper, "_store", refuse)
    monkeypatch.setattr(_store, "await_taken", await_taken)
    monkeypatch.setattr(_store, "GRACE", TIMEOUT)
    monkeypatch.setenv(variable, value)
    with open_kept() as handle:
        assert handle.kept is False


def test_older_systemd(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd before 254 does not say how much it stores, and closes what it refuses at once."""
    monkeypatch.setattr(_store, "GRACE", 0.01)
    monkeypatch.delenv("FDSTORE")
    with open_kept() as handle:
        assert handle.kept is True


def test_stored_in_part(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for all, nothing stays stored."""
    monkeypatch.setattr(Keeper, "_store", store_up_to(2))
    with open_kept() as handle:
        assert handle.kept is False
    assert _notify.await_taken()
    assert service.keeper.stored == []


def test_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper that does not answer: nobody knows, and overruns must not end the socket there."""
    monkeypatch.setattr(_notify, "PATIENCE", 0.01)
    with closing(Keeper()) as keeper:
        monkeypatch.setenv("NOTIFY_SOCKET", keeper.address)
        with open_kept() as handle:
            assert handle.kept is None
            assert handle.no_enobufs is True


@pytest.mark.parametrize("address", ["/nowhere", "vsock:2:1", ""])
def test_nobody_to_speak_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """NOTIFY_SOCKET may be of no use."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with open_kept() as handle:
        assert handle.kept is False


def test_passed_to_another_process(service: Service) -> None:
    """OSError that names both processes: a child of the service can't have its queues."""
    open_kept().close()
    service.restart(pid=1)
    with pytest.raises(OSError, match=rf"passed to process 1 .*this is process {os.getpid()}"):
        open_kept()
    with open_kept("another") as handle:
        assert handle.kept is True


@pytest.mark.parametrize("name", ["", "a:b", "ä", "a\nb", "x" * 256])
def test_bad_names(name: str) -> None:
    """ValueError with the rule."""
    with pytest.raises(ValueError, match="1 to 255 printable ASCII characters"):
        open_kept(name)


def test_wrong_type() -> None:
    """A name is a str."""
    with pytest.raises(TypeError, match="name must be a str"):
        open_kept(1)  # type: ignore[arg-type]


def test_netns(service: Service) -> None:
    """A new socket is opened in the namespace that is named."""
    with closing(Namespace()) as namespace, open_kept(netns=namespace.path) as handle:
        handle.create_queue(1, accept)
        with nfq.open() as here:
            here.create_queue(1, accept)


def receive_one(handle: Handle, packets: list[Packet]) -> None:
    process_until(handle, lambda: packets)


def take_over_in_vain() -> Packet:
    """A start that ends with a packet in its hands, which is returned."""
    packets: list[Packet] = []
    with open_kept() as handle:
        handle.create_queue(1, packets.append, unanswered=nfq.NF_REPEAT)
        receive_one(handle, packets)
    return packets[0]


def test_a_packet_that_ends_its_readers(service: Service, udp: UdpPair) -> None:
    """Three take-overs repeat it; then it gets the default verdict, unless one was answered."""
    with open_kept() as handle:
        handle.create_queue(1, accept)
    udp.send(b"deadly")
    seen: list[int] = []
    for _ in range(3):
        service.restart()
        seen.append(take_over_in_vain().id)
    assert len(set(seen)) == 3
    service.restart()
    with open_kept() as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
        assert handle.process() == 0
        udp.send(b"harmless")
        process_until(handle, lambda: handle.stats().packets)
    service.restart()
    packets: list[Packet] = []
    with open_kept() as handle:
        handle.create_queue(1, packets.append, unanswered=nfq.NF_REPEAT)
        udp.send(b"next")
        process_until(handle, lambda: packets)
    service.restart()
    with open_kept() as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: handle.stats().packets)
    assert udp.arrivals() == [b"harmless", b"next"]


def test_idle_starts_do_not_count(service: Service, udp: UdpPair) -> None:
    """A program that is restarted while nothing comes was not ended by a packet."""
    with open_kept() as handle:
        handle.create_queue(1, accept)
    for _ in range(5):
        service.restart()
        with open_kept() as handle:
            handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
            handle.process()
    udp.send(b"data")
    service.restart()
    take_over_in_vain()
    service.restart()
    with open_kept() as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: handle.stats().packets)
    assert udp.arrivals() == [b"data"]


def test_the_first_reader_has_not_taken_over(service: Service, udp: UdpPair) -> None:
    """A packet that it was given is repeated by three others."""
    packets: list[Packet] = []
    with open_kept() as handle:
        handle.create_queue(1, packets.append)
        udp.send(b"deadly")
        receive_one(handle, packets)
    for _ in range(3):
        service.restart()
        take_over_in_vain()
    service.restart()
    with open_kept() as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
        assert handle.process() == 0
    assert udp.arrivals() == []


@pytest.mark.parametrize("by", ["stream", "handle"])
async def test_stream(service: Service, udp: UdpPair, by: str) -> None:
    """What a stream has read and nobody has fetched is the next process's too."""
    async with aio.open_queue(1, handle=open_kept()) as stream:
        udp.send(b"1", b"2", b"3")
        packet = await stream.get()
        packet.accept()
        (stream if by == "stream" else stream.handle).close()
    assert udp.arrivals() == [b"1"]
    service.restart()
    seen: list[bytes] = []
    with open_kept() as handle:
        handle.create_queue(1, accepting(seen), unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(seen) == 2)
    assert seen == [b"2", b"3"]


def test_fork(service: Service) -> None:
    """A child keeps no copy, and may open the name on its own account."""
    with open_kept() as handle:
        handle.create_queue(1, accept)
        held = [fd for kept in _open._kept.values() for fd in (kept.sock, kept.ledger)]

        def child() -> None:
            for fd in held:
                with contextlib.suppress(OSError):
                    os.fstat(fd)
                    os._exit(3)
            os._exit(0)

        assert in_child(child) == 0
        assert not handle.closed


def test_fake_kernel(service: Service) -> None:
    """Restarts can be tested without root: the fake kernel's sockets are handed on too."""
    with FakeKernel() as kernel, kernel.patched():
        with open_kept() as handle:
            packets: list[Packet] = []
            handle.create_queue(1, packets.append)
            packet = kernel.enqueue(b"data")
            assert handle.process() == 1
        service.restart()
        with open_kept() as handle:
            assert handle.kept is True
            handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
            kernel.enqueue(b"next")
            process_until(handle, lambda: handle.stats().packets == 2)
            assert packet.wait(TIMEOUT).passed


def test_program_without_it() -> None:
    """Importing the package does not import it."""
    code = "import libnetfilterqueue, sys; print('libnetfilterqueue.keeping' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout == "False\n"
