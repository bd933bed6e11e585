# SPDX-License-Identifier: GPL-2.0-or-later
"""examples/dns-filter.service, started by a real systemd, which applies all that it says."""

import contextlib
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
from nameserver import ADDRESSES, PORT, addresses, ask, send, serving
from netns import CAP_NET_ADMIN, Namespace, iptables
from programs import EXAMPLES
from systemd import Systemd

import libnetfilterqueue as nfq

UNIT = EXAMPLES / "dns-filter.service"
PROBE = Path(__file__).with_name("probe.py")
FAMILY = socket.AF_INET
EXPOSURE = 15  # tenths, of 100, that `systemd-analyze security` may count


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """The network namespace of the service, for all tests: emulated machines are slow."""
    with contextlib.closing(Namespace()) as namespace:
        yield namespace


@pytest.fixture(scope="module")
def systemd(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """A systemd that knows the unit, and has what it starts."""
    units = tmp_path_factory.mktemp("units")
    shutil.copy(UNIT, units)
    with namespace:
        systemd = Systemd(units)
    with systemd:
        shutil.copy(EXAMPLES / "dns_filter.py", systemd.path("/opt/dns-filter"))
        systemd.path("/opt/dns-filter/blocked").write_text("blocked.example\n")
        yield systemd


def test_unit(systemd: Systemd) -> None:
    """systemd finds nothing wrong with the unit, and little that could be taken away."""
    path = systemd.run("systemctl show --property FragmentPath --value dns-filter").strip()
    assert systemd.run(f"systemd-analyze verify {path}") == ""
    systemd.run(f"systemd-analyze security --offline=true --threshold={EXPOSURE} {path}")


def is_bound() -> bool:
    """Whether there is a queue, and so the module, which the kernel loads for the first."""
    with contextlib.suppress(FileNotFoundError):
        return nfq.queue_status() != []
    return False


@pytest.fixture
def inside(namespace: Namespace) -> Iterator[None]:
    """The test is where the service is."""
    with namespace:
        yield


@pytest.mark.usefixtures("inside")
def test_filter(systemd: Systemd) -> None:
    """The service filters, as another user with one capability, and ends when it is told to."""
    iptables(f"-A OUTPUT -p udp --dport {PORT} -j NFQUEUE --queue-num 1")
    systemd.run("systemctl start dns-filter")
    systemd.wait_until(is_bound)
    process = systemd.main_process("dns-filter")
    assert 0 not in map(int, process["Uid"].split() + process["Gid"].split())
    assert {int(process[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        1 << CAP_NET_ADMIN
    }
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")
    with serving(FAMILY) as server:
        send(FAMILY, dns.message.make_query("a.blocked.example", "A").to_wire())
        assert addresses(ask(FAMILY, "www.example")) == ADDRESSES["A"]
        assert server.asked == ["www.example."]
    systemd.run("systemctl stop dns-filter")
    assert systemd.run("systemctl show --property Result --value dns-filter") == "success\n"


def probe(systemd: Systemd, *settings: str) -> dict[str, str]:
    """What a program finds that runs in the unit's place, with these settings more."""
    lines = UNIT.read_text().splitlines()
    position = next(i for i, line in enumerate(lines) if line.startswith("ExecStart="))
    python, _ = lines[position].removeprefix("ExecStart=").split(" ", 1)
    lines[position] = f"ExecStart={python} /opt/dns-filter/probe.py"
    lines[lines.index("Type=exec")] = "Type=oneshot"
    lines.remove("Restart=on-failure")
    found = systemd.path("/run/found")
    end = lines.index("[Install]")
    lines[end:end] = ["StandardOutput=truncate:/run/found", *settings]
    (systemd.units / "probe.service").write_text("\n".join(lines))
    shutil.copy(PROBE, systemd.path("/opt/dns-filter"))
    systemd.run("systemctl daemon-reload")
    systemd.run("systemctl start probe")
    answers: dict[str, str] = json.loads(found.read_text())
    return answers


def test_sandbox(systemd: Systemd) -> None:
    """The sandbox allows what queues need, and nothing else that a bug could reach.

    The capability alone shows no table; and it is none in a user namespace of the service's own.
    """
    assert probe(systemd) == {
        "a queue": "works",
        "a large receive buffer": "works",
        "the kernel's table": "ENOENT",
        "an IP socket": "EAFNOSUPPORT",
        "a packet socket": "EAFNOSUPPORT",
        "a UNIX socket": "EAFNOSUPPORT",
        "reading /root": "EACCES",
        "writing /etc": "EROFS",
        "writing below /opt": "EROFS",
        "writing to /sys": "EROFS",
        "another process": "ENOENT",
        "a disk": "ENOENT",
        "a mount": "EPERM",
        "a user namespace": "EPERM",
        "another network namespace": "EPERM",
        "becoming root": "EPERM",
        "code in writable memory": "EPERM",
        "the clock": "EPERM",
        "a kernel module": "EPERM",
        "tracing": "EPERM",
    }
    assert probe(systemd, "ProcSubset=all")["the kernel's table"] == "EACCES"
    assert probe(systemd, "PrivateUsers=yes")["a queue"] == "EPERM"
