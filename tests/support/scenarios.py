# SPDX-License-Identifier: GPL-2.0-or-later
"""What recipes do on real traffic, with their rules for iptables here and for nft in tests/vm."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from clients import HOST, Listener
from flows import FLOWS, send_flows, sender
from netns import (
    PORT,
    TIMEOUT,
    Counter,
    Namespace,
    UdpPair,
    iptables,
    run,
    sysctl,
    tool_environment,
    veth,
)
from netns import sender as ids
from recipes import recipe
from scapy.layers.inet import IP, UDP
from scapy.utils import rdpcap

ISOLATED = "192.0.2.66"  # what Docker's own rules keep apart
OURS = re.escape(os.readlink("/proc/self/exe"))
SHELL = os.path.realpath("/bin/bash")  # a program that has sockets, and is not Python


def logged(directory: Path, rules: str) -> None:
    """All packets pass. The remarkable one is logged with a comment, and copied to the probe."""
    file = directory / "log.pcapng"
    with contextlib.closing(Namespace()) as probe:
        veth("eth0", "eth0", probe)
        run("ip address add 192.0.2.1/24 dev eth0")
        with probe:
            run("ip address add 192.0.2.9/24 dev eth0")
            remarkable = Counter(
                "PREROUTING", "-m string --algo bm --string forbidden", table="raw"
            )
            every = Counter("PREROUTING", "-p udp", table="raw", target="DROP")
        before = time.time()
        with (
            recipe("pcapng", directory, "log_packets.py", rules, file) as program,
            UdpPair(host="192.0.2.1") as udp,
        ):
            udp.send(b"fine", b"forbidden", b"fine too")
            assert [udp.recv() for _ in range(3)] == [b"fine", b"forbidden", b"fine too"]
            with probe:
                program.wait_until(lambda: every.packets)
                assert (every.packets, remarkable.packets) == (1, 1)
            program.end(signal.SIGTERM)
    (packet,) = rdpcap(str(file))
    assert packet[IP].dst == "192.0.2.1"
    assert packet[UDP].payload.load == b"forbidden"
    assert packet.comments == [b"it says 'forbidden'"]
    assert before - 1 < packet.time < time.time() + 1


def shell(script: str) -> "subprocess.Popen[bytes]":
    """Runs until its standard input is closed."""
    return subprocess.Popen(
        [SHELL, "-c", f"{script}; read line"], stdin=subprocess.PIPE, env=tool_environment()
    )


def of_allowed_program(directory: Path, rules: str) -> None:
    """What the allowed program sends arrives, by TCP and UDP; what others send is dropped."""
    allowed = rf"{re.escape(SHELL)} \(pid {{}}, uid {ids()[0]}, .*: NF_ACCEPT"
    dropped = rf"{OURS} \(pid {os.getpid()}, .*: NF_DROP"
    with (
        recipe("which-program", directory, "which_program.py", rules, SHELL) as program,
        contextlib.closing(Listener()) as listener,
        UdpPair() as udp,
    ):
        with shell(f"exec 3<>/dev/tcp/{HOST}/{PORT}") as other:
            listener.accept()
            program.wait_for(allowed.format(other.pid))
        listener.refuse("127.0.0.2", program, dropped)
        udp.send(b"ours")
        program.wait_for(dropped, 2)
        with shell(f"exec 3<>/dev/udp/{HOST}/{PORT}; echo theirs >&3") as other:
            assert udp.recv() == b"theirs\n"
            program.wait_for(allowed.format(other.pid))
        program.end(signal.SIGTERM)


def shared(directory: Path, rules: str) -> None:
    """All packets but the forbidden one pass, and each process has had some."""
    with recipe("worker-processes", directory, "worker_processes.py", rules) as program:
        program.wait_for(r"Queue \d is bound", 4)
        with sender() as sock:
            sock.send(b"forbidden")
        send_flows(2)  # nothing else arrives
        program.end(signal.SIGTERM)
    shares = dict(re.findall(r"Queue (\d): (\d+) packets", program.output))
    assert sorted(shares) == ["0", "1", "2", "3"]
    assert all(map(int, shares.values()))
    assert sum(map(int, shares.values())) == 2 * len(FLOWS) + 1


@contextlib.contextmanager
def container(device: str, network: str) -> Iterator[Namespace]:
    """A network of its own, from which this host forwards."""
    with contextlib.closing(Namespace()) as namespace:
        veth(device, "eth0", namespace)
        run(f"ip address add {network}.1/24 dev {device}")
        with namespace:
            run(f"ip address add {network}.2/24 dev eth0")
            run(f"ip route add default via {network}.1")
        yield namespace


def docker_rules() -> None:
    """Chains as Docker has them: first the user's, then its own, which separate networks."""
    with contextlib.suppress(RuntimeError):  # it is there
        iptables("-N DOCKER-USER")
    iptables("-N DOCKER-ISOLATION")
    iptables(f"-A DOCKER-ISOLATION -d {ISOLATED} -j DROP")
    iptables("-A FORWARD -j DOCKER-USER")
    iptables("-A FORWARD -j DOCKER-ISOLATION")


def of_containers(directory: Path, rules: str) -> None:
    """What the program drops does not leave the host; what it lets pass obeys Docker's rules."""
    sysctl("ipv4/ip_forward", 1)
    with (
        container("docker0", "172.17.0") as inside,
        container("eth0", "192.0.2") as outside,
        recipe("container-host", directory, "docker_user.py", rules) as program,
    ):
        docker_rules()
        with outside:
            run(f"ip address add {ISOLATED}/24 dev eth0")
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with inside:
            sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver, sending:
            receiver.bind(("", PORT))
            receiver.settimeout(TIMEOUT)
            for host, data in [
                ("192.0.2.2", b"forbidden"),
                (ISOLATED, b"from another network"),
                ("192.0.2.2", b"fine"),
            ]:
                sending.sendto(data, (host, PORT))
            assert receiver.recv(100) == b"fine"
        program.end(signal.SIGTERM)
