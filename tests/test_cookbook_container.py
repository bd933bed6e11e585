# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/container-host.md: what containers send is filtered, on the host and beside them."""

import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest
import yaml
from capabilities import only
from nameserver import ask, send, serving
from netns import TIMEOUT, Namespace, iptables, queue_rule, run, sysctl, veth
from programs import EXAMPLES, Program
from recipes import recipe

SERVED = 9999  # the port that the rules are about
ISOLATED = "192.0.2.66"  # what Docker's own rules keep apart


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
    iptables("-N DOCKER-ISOLATION")
    iptables(f"-A DOCKER-ISOLATION -d {ISOLATED} -j DROP")
    iptables("-A FORWARD -j DOCKER-USER")
    iptables("-A FORWARD -j DOCKER-ISOLATION")


def test_docker_user(tmp_path: Path) -> None:
    """What the program drops does not leave the host, and what it lets pass obeys Docker's rules."""
    sysctl("ipv4/ip_forward", 1)
    with (
        container("docker0", "172.17.0") as inside,
        container("eth0", "192.0.2") as outside,
        recipe("container-host", tmp_path, "docker_user.py", "docker.v4") as program,
    ):
        docker_rules()
        with outside:
            run(f"ip address add {ISOLATED}/24 dev eth0")
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with inside:
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.bind(("", SERVED))
            receiver.settimeout(TIMEOUT)
            for host, data in [
                ("192.0.2.2", b"forbidden"),
                (ISOLATED, b"from another network"),
                ("192.0.2.2", b"fine"),
            ]:
                sender.sendto(data, (host, SERVED))
            assert receiver.recv(100) == b"fine"
        program.end(signal.SIGTERM)


def load(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((EXAMPLES / "container" / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


def of_compose() -> dict[str, tuple[list[str], list[str]]]:
    """The arguments and the capabilities of each container, all others dropped."""
    services = load("compose.yaml")["services"]
    assert all(service["cap_drop"] == ["ALL"] for service in services.values())
    assert {services[name]["network_mode"] for name in ("rules", "client")} == {"service:filter"}
    return {
        name: (service.get("command", []), service.get("cap_add", []))
        for name, service in services.items()
    }


def of_pod() -> dict[str, tuple[list[str], list[str]]]:
    """The same of the pod, whose containers share their network."""
    spec = load("pod.yaml")["spec"]
    containers = [*spec["initContainers"], *spec["containers"]]
    assert containers[0]["restartPolicy"] == "Always"
    granted = {each["name"]: each["securityContext"]["capabilities"] for each in containers}
    assert all(capabilities["drop"] == ["ALL"] for capabilities in granted.values())
    return {
        each["name"]: (each.get("args", []), granted[each["name"]].get("add", []))
        for each in containers
    }


@pytest.mark.parametrize("containers", [of_compose(), of_pod()], ids=["compose", "pod"])
def test_sidecar(tmp_path: Path, containers: dict[str, tuple[list[str], list[str]]]) -> None:
    """The filter works with its arguments and capabilities, and the filtered container has none."""
    arguments, capabilities = containers.pop("filter")
    _, of_rules = containers.pop("rules")
    ((_, of_filtered),) = containers.values()
    assert (of_rules, of_filtered) == (capabilities, [])
    queue_rule(1, "-p udp --dport 53", table="filter")
    queue_rule(1, "-p udp --sport 53", chain="INPUT", table="filter")
    command = [sys.executable, EXAMPLES / "dns_filter.py", *arguments]
    program = Program(tmp_path, [*only(*map(str.lower, capabilities)), *command])
    try:
        program.wait_for("bound")
        with serving(socket.AF_INET) as server:
            send(socket.AF_INET, dns.message.make_query("x.ads.example", "A").to_wire())
            ask(socket.AF_INET, "www.example")
        assert server.asked == ["www.example."]
        program.end(signal.SIGTERM)
    finally:
        program.kill()
