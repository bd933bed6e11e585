# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/rules.md says of packets, addresses and routes before and behind a queue."""

import contextlib
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns import (
    LOOPBACK,
    PORT,
    QUEUED_PORT,
    TIMEOUT,
    Counter,
    Namespace,
    UdpPair,
    background,
    iptables,
    queue_rule,
    run,
    veth,
)
from pages import ROOT, blocks
from queues import (
    Handle,
    Packet,
    accept,
    accepting,
    data_of,
    keeping,
    process_until,
    receive,
)

FILES = {block.file: block for block in blocks(ROOT / "docs" / "rules.md") if block.file}
CLIENT, GIVEN, REAL, SEEN = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"
SERVER = "198.51.100.1"


def load(name: str, directory: Path) -> None:
    """Loads a file of the page."""
    path = directory / name
    path.write_text(FILES[name].text)
    run(f"iptables-restore {path}")


@contextlib.contextmanager
def from_outside() -> Iterator[Namespace]:
    """A host on the other end of a cable."""
    with contextlib.closing(Namespace()) as other:
        veth("eth0", "eth0", other)
        run(f"ip address add {SERVER}/24 dev eth0")
        with other:
            run("ip address add 198.51.100.2/24 dev eth0")
        yield other


@pytest.mark.parametrize(
    ("table", "chain", "source", "destination"),
    [
        ("raw", "OUTPUT", CLIENT, GIVEN),
        ("mangle", "OUTPUT", CLIENT, GIVEN),
        ("filter", "OUTPUT", CLIENT, REAL),
        ("mangle", "POSTROUTING", CLIENT, REAL),
        ("raw", "PREROUTING", SEEN, REAL),
        ("filter", "INPUT", SEEN, REAL),
    ],
)
def test_addresses(handle: Handle, table: str, chain: str, source: str, destination: str) -> None:
    """Each chain shows the addresses that the page says, where NAT changes both."""
    for host in (CLIENT, GIVEN, REAL, SEEN):
        run(f"ip address add {host}/32 dev lo")
    iptables(f"-t nat -A OUTPUT -p udp -d {GIVEN} -j DNAT --to-destination {REAL}")
    iptables(f"-t nat -A POSTROUTING -p udp -s {CLIENT} -j SNAT --to-source {SEEN}")
    queue_rule(1, "-p udp", table=table, chain=chain)
    packets = keeping(handle)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((CLIENT, 0))
        sender.sendto(b"data", (GIVEN, PORT))
        payload = receive(handle, packets).get_payload()
    assert socket.inet_ntoa(payload[12:16]) == source
    assert socket.inet_ntoa(payload[16:20]) == destination


def test_queue_in_nat(handle: Handle) -> None:
    """A packet that is accepted from a chain of `nat` misses the translations behind the rule."""
    queue_rule(1, table="nat")
    iptables(f"-t nat -A OUTPUT -p udp --sport {QUEUED_PORT} -j DNAT --to-destination {GIVEN}")
    seen: list[bytes] = []
    handle.create_queue(1, accepting(seen))
    with UdpPair() as udp:
        udp.send(b"data")
        process_until(handle, lambda: seen)
        assert udp.recv() == b"data"


@pytest.mark.parametrize("table", ["raw", "mangle", "filter"])
def test_routed_again(handle: Handle, table: str) -> None:
    """A packet of this host whose mark the verdict sets takes the route of that mark."""
    with from_outside() as other:
        veth("eth1", "eth1", other)
        run("ip route add 203.0.113.0/24 dev eth0")
        run("ip route add 203.0.113.0/24 dev eth1 table 100")
        run("ip rule add fwmark 5 lookup 100")
        queue_rule(1, "-p udp", table=table)
        other_way = Counter("POSTROUTING", "-p udp -o eth1", table="mangle")
        handle.create_queue(1, lambda packet: packet.accept(mark=5))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"data", ("203.0.113.1", PORT))
        process_until(handle, lambda: other_way.packets == 1)


def test_routed_after_prerouting(handle: Handle) -> None:
    """A packet that arrives takes the route of the mark that a queue in PREROUTING gives it."""
    run("ip route add blackhole default table 100")
    run("ip rule add pref 10 lookup local")  # behind the mark's rule
    run("ip rule del pref 0")
    run("ip rule add pref 5 fwmark 5 lookup 100")
    queue_rule(1, "-p udp", table="mangle", chain="PREROUTING")
    marks = {b"is routed away": 5}
    handle.create_queue(1, lambda packet: packet.accept(mark=marks.get(data_of(packet), 0)))
    with from_outside() as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((SERVER, PORT))
        server.settimeout(TIMEOUT)
        with client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for data in (b"is routed away", b"passes"):
                sender.sendto(data, (SERVER, PORT))
        process_until(handle, lambda: handle.stats().packets == 2)
        assert server.recv(100) == b"passes"


@pytest.mark.parametrize("bound", [True, False])
def test_rules_behind(handle: Handle, bound: bool) -> None:
    """An accepted packet skips the rules behind the one that queued it; so it does by bypass."""
    queue_rule(1, table="filter", bypass=True)
    behind = Counter("OUTPUT", f"-p udp --sport {QUEUED_PORT}")
    next_table = Counter("POSTROUTING", f"-p udp --sport {QUEUED_PORT}", table="mangle")
    if bound:
        handle.create_queue(1, accept)
    with UdpPair() as udp:
        udp.send(b"data")
        process_until(handle, lambda: next_table.packets)
        assert udp.recv() == b"data"
    assert behind.packets == 0


def test_balance_of_both_directions(handle: Handle) -> None:
    """All packets between two hosts come to the same queue."""
    iptables("-t raw -A OUTPUT -p udp -j NFQUEUE --queue-balance 0:3")
    queues: list[int] = []
    for number in range(4):
        handle.create_queue(number, lambda packet: queues.append(packet.queue.number))
    used = set()
    for number, port in itertools.product(range(1, 17), (5001, 5002)):
        ends = (f"127.0.{number}.1", "127.0.0.1")
        for here, there in (ends, ends[::-1]):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((here, 0))
                sender.sendto(b"data", (there, port))
        process_until(handle, lambda: len(queues) == 2)
        assert queues[0] == queues[1]
        used.add(queues[0])
        queues.clear()
    assert len(used) > 1


def test_server(handle: Handle, tmp_path: Path) -> None:
    """The server's file queues each packet from outside once, and later rules see it."""
    load("server.v4", tmp_path)
    behind = Counter("INPUT", "-p tcp --dport 80 -m mark --mark 1")
    seen: list[int] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.id)
        packet.repeat(mark=packet.mark | 1)

    handle.create_queue(1, callback)

    def ask(client: Namespace) -> bytes:
        with client, socket.create_connection((SERVER, 80), TIMEOUT) as connection:
            connection.sendall(b"question")
            return connection.recv(100)

    with from_outside() as client, socket.create_server((SERVER, 80)) as server:
        asked = background(ask, client)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100))

        answered = background(answer)
        process_until(handle, lambda: asked.done() and answered.done())
        assert asked.result(TIMEOUT) == b"question"
        answered.result(TIMEOUT)
    assert len(seen) == behind.packets >= 3


def test_dns(handle: Handle, tmp_path: Path) -> None:
    """The first file queues queries of this host, and lets them pass while nobody listens."""
    load("rules.v4", tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(TIMEOUT)
        server.bind((LOOPBACK[socket.AF_INET], 53))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(server.getsockname())
            client.send(b"alone")
            assert server.recv(100) == b"alone"
            packets = keeping(handle)
            client.send(b"seen")
            receive(handle, packets).accept()
            assert server.recv(100) == b"seen"


def test_router(tmp_path: Path) -> None:
    """The router's file queues what is forwarded, of TCP and UDP, and not ssh."""
    load("router.v4", tmp_path)
    listed = iptables("-t mangle -S FORWARD")
    assert listed.count("--queue-balance 0:3 --queue-bypass") == 2
    assert listed.index("--sport 22") < listed.index("NFQUEUE")
