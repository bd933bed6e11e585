# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/container-host.md: containers are filtered, on their host and beside them."""

import signal
import socket
import sys
from pathlib import Path
from typing import Any

import dns.message
import pytest
import scenarios
import yaml
from capabilities import only
from nameserver import ask, send, serving
from netns import queue_rule
from programs import EXAMPLES, Program


def test_docker_user(tmp_path: Path) -> None:
    """The program and Docker's own rules decide on what a container sends."""
    scenarios.of_containers(tmp_path, "docker.v4")


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
