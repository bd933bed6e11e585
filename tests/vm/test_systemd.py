# SPDX-License-Identifier: GPL-2.0-or-later
"""keeping.open() with a real systemd: a filter ends in many ways, and no packet is lost."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from netns import TIMEOUT, Namespace, UdpPair, background, queue_rule
from systemd import Systemd

import libnetfilterqueue as nfq

PROGRAM = Path(__file__).with_name("kept_filter.py")
SO_SNDBUFFORCE = 32
LARGEST = 65507  # bytes of data in a datagram
STORED = 2  # the socket and its ledger

UNIT = """\
[Unit]
DefaultDependencies=no
StartLimitIntervalSec=0

[Service]
{root}
Type=notify
ExecStart={python} -P {program} {directory}
ExecStopPost=/bin/sh -c 'echo ended by $SERVICE_RESULT >>{directory}/log'
FileDescriptorStoreMax=8
Restart=always
RestartSec=0
TimeoutStartSec=infinity
{settings}
"""


class Filter:
    """The service, and what it reports."""

    def __init__(self, systemd: Systemd, directory: Path) -> None:
        self._systemd = systemd
        self._directory = directory
        self._name = f"{directory.name}.service"  # known to systemd without a reload

    def start(self, *settings: str) -> None:
        """Starts it with these settings more; the later one of two counts."""
        unit = UNIT.format(
            root=self._systemd.root,
            python=sys.executable,
            program=PROGRAM,
            directory=self._directory,
            settings="\n".join(settings),
        )
        (self._systemd.units / self._name).write_text(unit)
        self.systemctl("start")

    def systemctl(self, command: str) -> str:
        return self._systemd.run(f"systemctl {command} {self._name}")

    def stored(self) -> int:
        """How many descriptors the store has."""
        return int(self.systemctl("show --property NFileDescriptorStore --value"))

    def send_signal(self, signum: signal.Signals) -> None:
        """To the main process alone."""
        self.systemctl(f"kill --kill-whom=main --signal={signum.name}")

    def ask_for(self, fault: str) -> None:
        (self._directory / fault).touch()

    def take_back(self, fault: str) -> None:
        (self._directory / fault).unlink()

    def log(self) -> list[str]:
        path = self._directory / "log"
        return path.read_text().splitlines() if path.exists() else []

    def wait_until(self, done: Callable[[], object]) -> None:
        self._systemd.wait_until(done)

    def wait_for(self, line: str, count: int = 1) -> None:
        """Until it has reported that as often."""
        self.wait_until(lambda: self.log().count(line) >= count)


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """The network namespace of the service, for all tests: emulated machines are slow."""
    with contextlib.closing(Namespace()) as namespace:
        yield namespace


@pytest.fixture(scope="module")
def systemd(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """A systemd."""
    with namespace:
        queue_rule(1)
        systemd = Systemd(tmp_path_factory.mktemp("units"), os.environ.get("SYSTEMD_TREE"))
    with systemd:
        yield systemd


@pytest.fixture
def udp(namespace: Namespace) -> Iterator[UdpPair]:
    """Datagrams through queue 1, where the service is, and so is the test."""
    with namespace, UdpPair() as pair:
        yield pair


@pytest.fixture
def service(systemd: Systemd, udp: UdpPair, tmp_path: Path) -> Iterator[Filter]:
    """The service, not started yet."""
    service = Filter(systemd, tmp_path)
    yield service
    service.systemctl("stop")


@contextlib.contextmanager
def stream(udp: UdpPair) -> Iterator[None]:
    """Numbered datagrams are sent meanwhile; each of them arrives, once."""
    end = threading.Event()
    last = b"the last one"
    sent: list[bytes] = []

    def send() -> None:
        while not end.wait(0.02):
            sent.append(b"%d" % len(sent))
            udp.send(sent[-1])
        udp.send(last)

    receiving = background(lambda: list(iter(udp.recv, last)))
    sending = background(send)
    yield
    end.set()
    sending.result(TIMEOUT)
    arrived = receiving.result(TIMEOUT) + udp.arrivals()
    assert sorted(arrived) == sorted(sent)
    assert len(sent) > 10


def lost() -> int:
    """How many packets found the socket's buffer full."""
    (status,) = nfq.queue_status()
    return status.user_dropped


def restart(service: Filter) -> None:
    service.systemctl("restart")


def kill(service: Filter) -> None:
    service.send_signal(signal.SIGKILL)


def hang(service: Filter) -> None:
    service.ask_for("hang")


def fail(service: Filter) -> None:
    service.ask_for("fail")
    service.send_signal(signal.SIGTERM)
    service.wait_for("fails")


ENDS: dict[str, tuple[Callable[[Filter], object], str, str]] = {
    "restart": (restart, "", "ended by success"),
    "kill": (kill, "", "ended by signal"),
    "watchdog": (hang, "WatchdogSec=3", "ended by watchdog"),
    "failed-start": (fail, "", "ended by exit-code"),
}


@pytest.mark.parametrize(
    "end",
    [
        "restart",
        "kill",
        pytest.param("watchdog", marks=pytest.mark.slow),
        pytest.param("failed-start", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_lost(service: Filter, udp: UdpPair, end: str) -> None:
    """What its reader has not answered, what it has not read, and what comes meanwhile arrives."""
    bring_about, setting, result = ENDS[end]
    service.start(setting)
    assert service.log() == ["kept True"]
    assert service.stored() == STORED
    with stream(udp):
        service.ask_for("hold")
        service.wait_for("holds", 3)
        service.take_back("hold")
        bring_about(service)
        service.wait_for("kept True", 2)
    assert result in service.log()
    assert service.stored() == STORED


def test_stop(service: Filter, udp: UdpPair) -> None:
    """Once the service is stopped, another program can have its queue."""
    service.start()
    assert [status.queue for status in nfq.queue_status()] == [1]
    service.systemctl("stop")
    with nfq.open() as handle:
        handle.create_queue(1, nfq.NetfilterQueueData.accept)


@pytest.mark.slow
def test_reexec(systemd: Systemd, service: Filter, udp: UdpPair) -> None:
    """A new systemd, as an upgrade of it starts one, has what the old one had."""
    service.start()
    with stream(udp):
        systemd.run("systemctl daemon-reexec")
        kill(service)
        service.wait_for("kept True", 2)
    assert service.stored() == STORED


@pytest.mark.slow
def test_overrun(service: Filter, udp: UdpPair) -> None:
    """The store does not drop a socket that lost messages; a process that starts then has it."""
    service.start()
    udp.sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 26)
    service.send_signal(signal.SIGSTOP)
    while not lost():
        udp.send(bytes(LARGEST))
    kill(service)
    service.wait_for("kept True", 2)
    udp.send(b"next")
    assert udp.arrives(b"next", lambda: None)
    assert service.stored() == STORED


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (["FileDescriptorStoreMax=0"], False),
        pytest.param(["FileDescriptorStoreMax=0", "Type=exec"], False, marks=pytest.mark.slow),
        (["FileDescriptorStoreMax=3", "Type=exec", "NotifyAccess=all"], True),
    ],
)
def test_kept(service: Filter, settings: list[str], kept: bool) -> None:
    """The handle says whether its socket is stored."""
    service.start(*settings)
    service.wait_until(service.log)
    assert service.log() == [f"kept {kept}"]
    assert service.stored() == (STORED if kept else 0)
