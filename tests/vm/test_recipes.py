# SPDX-License-Identifier: GPL-2.0-or-later
"""The cookbook's programs with the rules for nft that stand beside them."""

import os
import re
import signal
import socket
import sys
from pathlib import Path

import dns.message
import dns.query
import pytest
import scenarios
from bridge import filtered, neighbours
from netns import LOOPBACK, PORT, TIMEOUT, UdpPair, run, tcp_echo, tcp_exchange
from recipes import load, recipe
from systemd import Systemd

HOST = LOOPBACK[socket.AF_INET]
HANGING = """\
import os
import sys
import threading

import watched

os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
decide = watched.decide


def hang(packet):
    if b"hang" in packet.payload.tobytes():
        threading.Event().wait()
    decide(packet)


watched.decide = hang
watched.main()
"""
DATA = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


def test_once_per_connection(tmp_path: Path) -> None:
    """Of a long conversation the program sees the first packets only."""
    with recipe("once-per-connection", tmp_path, "once.py", "once.nft") as program:
        run("ip link set lo mtu 1500")
        with tcp_echo():
            data = DATA + bytes(200_000)
            assert tcp_exchange(data) == data
        program.end(signal.SIGTERM)
    packets = re.search(r"(\d+) packets were queued", program.output)
    assert packets is not None
    assert 3 < int(packets[1]) < 30


def test_reject(tmp_path: Path) -> None:
    """What is refused is answered by RST, or by ICMP."""
    with (
        recipe("reject", tmp_path, "reject.py", "reject.nft") as program,
        socket.create_server((HOST, PORT)),
        socket.create_connection((HOST, PORT), TIMEOUT) as client,
        UdpPair() as udp,
    ):
        client.sendall(b"forbidden")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        udp.send(b"fine", b"forbidden")
        assert udp.recv() == b"fine"
        with pytest.raises(OSError, match="No route to host"):
            udp.sender.recv(100)
        program.end(signal.SIGTERM)


def test_tcp_data(tmp_path: Path) -> None:
    """A word is replaced in both directions by a longer one."""
    with recipe("tcp-data", tmp_path, "tcp_data.py", "tcp-data.nft") as program:
        with tcp_echo(), socket.create_connection((HOST, PORT), TIMEOUT) as client:
            client.sendall(b"the colour\n")
            received = b""
            while not received.endswith(b"\n"):
                received += client.recv(100)
        assert received == b"the a a colour with a longer name with a longer name\n"
        program.end(signal.SIGTERM)


def test_dns_answer(tmp_path: Path) -> None:
    """A query is answered although no server is there."""
    with recipe("dns-answer", tmp_path, "dns_answer.py", "dns-answer.nft") as program:
        answer = dns.query.udp(dns.message.make_query("www.example", "A"), HOST, timeout=TIMEOUT)
        assert answer.answer[0][0].to_text() == "192.0.2.80"
        program.end(signal.SIGTERM)


def test_bridge(tmp_path: Path) -> None:
    """A bridge passes on what is allowed, in its own family."""
    with (
        neighbours() as (left, right),
        recipe("bridge", tmp_path, "bridge_filter.py", "bridge.nft") as program,
    ):
        filtered(program, left, right, "bridge")
        program.end(signal.SIGTERM)


def test_pcapng(tmp_path: Path) -> None:
    """Remarkable packets are logged and duplicated, and all pass."""
    scenarios.logged(tmp_path, "log.nft")


def test_which_program(tmp_path: Path) -> None:
    """What other programs than the allowed one send is dropped."""
    scenarios.of_allowed_program(tmp_path, "program.nft")


def test_worker_processes(tmp_path: Path) -> None:
    """Each of the processes has a share of the packets."""
    scenarios.shared(tmp_path, "workers.nft")


def test_docker_user(tmp_path: Path) -> None:
    """The program and Docker's own rules decide on what a container sends."""
    scenarios.of_containers(tmp_path, "docker.nft")


def test_watchdog(tmp_path: Path) -> None:
    """A program that hangs says where, is ended, and is started again."""
    units, log = tmp_path / "units", tmp_path / "log"
    units.mkdir()
    load("watchdog", tmp_path, "watched.nft")
    (tmp_path / "hanging.py").write_text(HANGING)
    unit = (tmp_path / "watched.service").read_text()
    unit = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", unit)
    unit = unit.replace("/opt/filter/watched.py", f"{tmp_path}/hanging.py {log}")
    with Systemd(units, os.environ.get("SYSTEMD_TREE")) as systemd, UdpPair() as udp:
        unit = unit.replace("DynamicUser=yes", systemd.root)  # it could not read our files
        (units / "watched.service").write_text(unit)
        systemd.run("systemctl start watched")
        udp.send(b"forbidden", b"fine")
        assert udp.recv() == b"fine"
        udp.send(b"hang")
        show = "systemctl show --property NRestarts,ActiveState watched"
        systemd.wait_until(
            lambda: set(systemd.run(show).split()) == {"NRestarts=1", "ActiveState=active"}
        )
        assert re.search(r"hanging.py\", line \d+ in hang\n", log.read_text())
        udp.send(b"forbidden", b"fine")
        assert udp.recv() == b"fine"
        systemd.run("systemctl stop watched")
