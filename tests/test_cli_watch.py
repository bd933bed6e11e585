# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue watch` on the real kernel, as a program of its own."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest
from capabilities import only
from netns import (
    PORT,
    QUEUED_PORT,
    TIMEOUT,
    Counter,
    UdpPair,
    background,
    down,
    iptables,
    queue_rule,
    run,
    sender,
    tcp_echo,
    tcp_exchange,
)
from programs import COMMAND, Program, command_line
from queues import accepting, process_until
from scapy.layers.inet import IP, UDP
from scapy.utils import RawPcapNgReader

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._watch import hints

pytestmark = pytest.mark.slow  # each starts programs

TIME = r"\d\d:\d\d:\d\d\.\d{6}"
PAGE = 4096  # bytes; a pipe consists of such
IN_FLIGHT = 100  # datagrams; the sender's buffer has room for so many that wait
DATAGRAM = rf"IP 127\.0\.0\.1\.{QUEUED_PORT} > 127\.0\.0\.1\.{PORT}: UDP"


@contextlib.contextmanager
def watching(directory: Path, *arguments: object, output: int | None = None) -> Iterator[Program]:
    """It runs, and has bound queue 1."""
    with command_line(directory, "watch", 1, *arguments, output=output) as program:
        program.wait_until(lambda: "Queue 1 is bound" in program.errors)
        yield program


def waiting(descriptor: int) -> int:
    """How many bytes there are to be read."""
    (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))
    return int(count)


def as_this_user() -> str:
    return f"uid {sender()[0]}"


def test_lines(udp: UdpPair, tmp_path: Path) -> None:
    """A packet's line has time, verdict, devices, addresses and ports, length, mark and user."""
    iptables(f"-t raw -I OUTPUT -p udp --sport {QUEUED_PORT} -j MARK --set-mark 0x2a")
    with watching(tmp_path) as program:
        udp.send(b"data", bytes(100))
        assert udp.recv() == b"data"
        program.wait_for("\n", 2)
        program.end(signal.SIGINT, 130)
    marks = f"mark 0x2a, {as_this_user()}"
    first, second = program.output.splitlines()
    assert re.fullmatch(rf"{TIME} accept >lo {DATAGRAM}, length 4, {marks}", first)
    assert re.fullmatch(rf"{TIME} accept >lo {DATAGRAM}, length 100, {marks}", second)


def test_summary(udp: UdpPair, tmp_path: Path) -> None:
    """The summary has packets, bytes, seconds, and what the kernel dropped if it reports that."""
    with watching(tmp_path, "--filter", "port=1") as program:
        udp.send(b"data", bytes(100))
        assert [udp.recv(), udp.recv()] == [b"data", bytes(100)]
        program.end(signal.SIGTERM, 0)
    assert program.output == ""
    lines = program.errors.splitlines()
    assert re.fullmatch(r"2 packets, 160 bytes in \d+\.\d s", lines[1])
    assert lines[2] == "0 packets shown"
    try:
        nfq.queue_status()
    except PermissionError:
        assert lines[3] == "packets dropped by the kernel: only root can read this"
    else:
        assert lines[3] == "0 packets dropped by the kernel: queue full"
        assert lines[4] == "0 packets dropped by the kernel: receive buffer full"
    assert lines[-2:] == ["0 overruns", "0 packets cut short"]


def test_refused_verdicts(udp: UdpPair, tmp_path: Path) -> None:
    """The summary counts refused verdicts: the kernel has forgotten the packet meanwhile."""
    with watching(tmp_path) as program:
        program.process.send_signal(signal.SIGSTOP)
        udp.send(b"data")
        down("lo")
        program.process.send_signal(signal.SIGCONT)
        program.wait_for("\n")
        program.end(signal.SIGTERM)
    assert program.errors.endswith("\n1 verdict refused by the kernel\n")


def test_count(udp: UdpPair, tmp_path: Path) -> None:
    """watch ends after --count lines, and packets that still wait have their verdict."""
    with watching(tmp_path, "--count", 3) as program:
        program.process.send_signal(signal.SIGSTOP)
        sent = [b"%d" % number for number in range(10)]
        udp.send(*sent)
        program.process.send_signal(signal.SIGCONT)
        program.ends()
    assert program.output.count("\n") == 3
    assert udp.arrivals() == sent


@pytest.mark.parametrize("ending", [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.parametrize(("verdict", "passes"), [("accept", True), ("stop", True), ("drop", False)])
def test_ended_with_packets_in_flight(
    udp: UdpPair, tmp_path: Path, ending: tuple[signal.Signals, int], verdict: str, passes: bool
) -> None:
    """When a signal ends watch, packets that it has not read get the verdict too."""
    with watching(tmp_path, "--verdict", verdict) as program:
        udp.send(b"before")
        program.wait_for(f" {verdict} ")
        program.process.send_signal(signal.SIGSTOP)
        sent = [b"%d" % number for number in range(IN_FLIGHT)]
        udp.send(*sent)
        signum, status = ending
        program.process.send_signal(signum)
        program.process.send_signal(signal.SIGCONT)
        program.ends(status)
    assert udp.arrivals() == ([b"before", *sent] if passes else [])


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_ended_while_it_waits(
    udp: UdpPair, tmp_path: Path, signum: signal.Signals, status: int
) -> None:
    """A second signal ends watch even while it waits for somebody to read its lines."""
    reader, writer = os.pipe()
    most = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) - PAGE  # room for a part of the lines
    os.write(writer, bytes(most))
    with watching(tmp_path, output=writer) as program:
        os.close(writer)
        program.process.send_signal(signal.SIGSTOP)
        udp.send(*[b""] * IN_FLIGHT)
        program.process.send_signal(signal.SIGCONT)
        program.wait_until(lambda: waiting(reader) > most)
        program.process.send_signal(signum)
        with pytest.raises(subprocess.TimeoutExpired):
            program.process.wait(0.2)
        program.end(signum, status)
    os.close(reader)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_ended_under_traffic(tmp_path: Path, signum: signal.Signals, status: int) -> None:
    """Of packets that come while a signal ends watch none is lost."""
    queue_rule(1, bypass=True)
    arrived = Counter("INPUT", f"-p udp --sport {QUEUED_PORT}")
    enough = threading.Event()

    def send(udp: UdpPair) -> int:
        end = time.monotonic() + TIMEOUT
        number = 0
        while not enough.is_set():
            assert time.monotonic() < end, "it takes too long to end"
            udp.send(b"data")
            number += 1
            time.sleep(0.0005)
        return number

    with UdpPair() as udp, watching(tmp_path) as program:
        sending = background(send, udp)
        program.wait_for("\n", 50)
        program.end(signum, status)
        enough.set()
        sent = sending.result(TIMEOUT)  # it may have sent one more meanwhile
        assert arrived.packets == sent > 50


def test_stop(udp: UdpPair, tmp_path: Path) -> None:
    """With --verdict stop the hook's later tables do not see the packet."""
    later = Counter("OUTPUT", f"-p udp --sport {QUEUED_PORT}", table="mangle")
    with watching(tmp_path, "--verdict", "stop", "--count", 1) as program:
        udp.send(b"data")
        assert udp.recv() == b"data"
        program.ends()
    assert re.fullmatch(rf"{TIME} stop   >lo {DATAGRAM}, .*\n", program.output)
    assert later.packets == 0


def test_to_another_queue(udp: UdpPair, tmp_path: Path, handle: nfq.NetfilterQueueHandle) -> None:
    """With --verdict queue the packet goes on to the named queue."""
    seen: list[bytes] = []
    handle.create_queue(2, accepting(seen), mode=nfq.NFQNL_COPY_PACKET)
    with watching(tmp_path, "--verdict", "queue:2", "--count", 1) as program:
        udp.send(b"data")
        process_until(handle, lambda: seen)
        program.ends()
    assert seen == udp.arrivals() == [b"data"]
    assert " queue:2 >lo " in program.output


def test_filters(udp: UdpPair, tmp_path: Path) -> None:
    """A packet that does not match gets its verdict without a line."""
    iptables("-t raw -A OUTPUT -p icmp -j NFQUEUE --queue-num 1")
    options = ["--filter", "proto=udp", "--filter", f"port={PORT}", "--filter", "host=127.0.0.0/8"]
    with watching(tmp_path, *options, "--count", 2) as program:
        udp.send(b"1")
        udp.sender.sendto(b"refused, by ICMP", ("127.0.0.1", PORT + 1))
        try:
            udp.send(b"2")
        except ConnectionRefusedError:  # its socket may be told of that first
            udp.send(b"2")
        program.ends()
    assert udp.arrivals() == [b"1", b"2"]
    assert len(re.findall(DATAGRAM, program.output)) == program.output.count("\n") == 2


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["mark=0x2a"], [b"marked"]),
        (["mark=0x20/0xf0"], [b"marked"]),
        (["mark=0/0xff"], [b"plain"]),
        (["not mark=0"], [b"marked"]),
        (["not mark=0x2a", "not mark=0"], []),
        (["uid={uid}"], [b"marked", b"plain"]),
        (["not uid={uid}"], []),
        (["device=lo", "not mark=0"], [b"marked"]),
        (["device=eth7", "device=lo"], [b"marked", b"plain"]),
        (["not device=lo"], []),
    ],
)
def test_filters_of_attributes(
    udp: UdpPair, tmp_path: Path, filters: list[str], expected: list[bytes]
) -> None:
    """Packets are chosen by their mark, user and device, and `not` leaves some out."""
    iptables(
        f"-t raw -I OUTPUT -p udp --sport {QUEUED_PORT} -m length --length 34 -j MARK --set-mark 42"
    )
    options = [f"--filter={text.format(uid=sender()[0])}" for text in filters]
    path = tmp_path / "written.pcapng"
    with watching(tmp_path, "--write", path, *options) as program:
        udp.send(b"marked", b"plain")
        assert [udp.recv(), udp.recv()] == [b"marked", b"plain"]
        program.end(signal.SIGTERM)
    assert "2 packets, " in program.errors
    with RawPcapNgReader(str(path)) as reader:
        assert [IP(data[16:])[UDP].payload.original for data, _ in reader] == expected


def tls_hello(name: str | None) -> bytes:
    """What a client of TLS says first."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (tls_hello("www.example.com"), "TLS ClientHello www.example.com"),
        (tls_hello(None), "TLS ClientHello"),
        (b"GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP GET /index.html HTTP/1.1"),
    ],
    ids=["tls", "tls-without-a-name", "http"],
)
def test_conversation(tmp_path: Path, data: bytes, shown: str) -> None:
    """A line says which server a client of TLS wants, and what HTTP asks for."""
    iptables(f"-t raw -A OUTPUT -p tcp --dport {PORT} -j NFQUEUE --queue-num 1")
    with watching(tmp_path) as program, tcp_echo() as served:
        assert tcp_exchange(data) == data
        served.result(TIMEOUT)
        program.wait_for(r"Flags \[P\.\]")
        program.end(signal.SIGTERM)
    (line,) = (line for line in program.output.splitlines() if "[P.]" in line)
    assert line.endswith(f"length {len(data)}, {as_this_user()}, {shown}")


def test_dns(tmp_path: Path) -> None:
    """A line has the question and the answers of DNS, and the name of an ICMP message."""
    iptables("-t raw -A OUTPUT -j NFQUEUE --queue-num 1")
    query = dns.message.make_query("www.example.com", "AAAA", id=7)
    with watching(tmp_path, "--count", 2) as program:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(query.to_wire(), ("127.0.0.1", 53))
        program.ends()
    question, refused = program.output.splitlines()
    assert question.endswith(
        f"127.0.0.1.53: UDP, length 33, {as_this_user()}, DNS 7 AAAA? www.example.com"
    )
    assert "ICMP destination-unreachable port-unreachable, length 69" in refused


def test_bytes(udp: UdpPair, tmp_path: Path) -> None:
    """-x prints the bytes of a packet below its line; 60 columns have room for them."""
    with watching(tmp_path, "-x", "--count", 1) as program:
        udp.send(b"data of more than a line\n")
        program.ends()
    line, *dump = program.output.splitlines()
    assert re.fullmatch(rf"{TIME} accept >lo {DATAGRAM}, length 25, {as_this_user()}", line)
    assert [text[:8] for text in dump] == ["  0000  ", "  0010  ", "  0020  ", "  0030  "]
    assert dump[2].endswith("  of more than a ")
    assert dump[3] == "  0030  6c696e65 0a                         line."
    assert max(map(len, dump)) == 60


def test_read(udp: UdpPair, tmp_path: Path) -> None:
    """--read shows a file that watch has written as the packets were shown."""
    iptables(f"-t raw -I OUTPUT -p udp --sport {QUEUED_PORT} -j MARK --set-mark 0x2a")
    path = tmp_path / "written.pcapng"
    with watching(tmp_path, "--write", path, "--count", 2) as program:
        udp.send(b"data", b"more")
        program.ends()
    done = finished("watch", "--read", str(path), under=[])
    assert (done.returncode, done.stdout) == (0, program.output)
    assert done.stderr == "2 packets\n2 packets shown\n"
    done = finished("watch", "--read", str(path), "--filter=not mark=42", under=[])
    assert (done.returncode, done.stdout) == (0, "")


def test_read_from_a_pipe(udp: UdpPair, tmp_path: Path) -> None:
    """One watch reads what another one sees, at once."""
    reader, writer = os.pipe()
    with watching(tmp_path, "--write", "-", output=writer) as program:
        os.close(writer)
        with subprocess.Popen(
            [*COMMAND, "watch", "--read", "-"],
            stdin=reader,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as other:
            os.close(reader)
            udp.send(b"data")
            assert other.stdout is not None
            assert f"{DATAGRAM}, length 4".replace("\\", "") in other.stdout.readline()
            program.end(signal.SIGTERM)
            assert other.wait(TIMEOUT) == 0


def test_no_rule(tmp_path: Path) -> None:
    """If no packet comes and no rule names the queue, a hint says so."""
    with watching(tmp_path) as program:
        program.wait_until(lambda: "libnetfilterqueue rules --queue 1\n" in program.errors)
        program.end(signal.SIGTERM)
    assert "\nNo rule of iptables or nft names queue 1. This prints some:\n" in program.errors


def test_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no hint for a queue that a rule names, and none where nobody can know."""
    iptables("-A OUTPUT -p udp -j NFQUEUE --queue-balance 2:4")
    assert [bool(list(hints(number))) for number in range(1, 6)] == [True, *[False] * 3, True]
    monkeypatch.setattr("libnetfilterqueue.cli._found_rules.find_tool", lambda _: None)
    assert list(hints(1)) == []


def test_json(udp: UdpPair, tmp_path: Path) -> None:
    """--json prints one object per line, with everything."""
    before = time.time()
    with watching(tmp_path, "--json", "--count", 1) as program:
        udp.send(b"data")
        program.ends()
    (line,) = program.output.splitlines()
    told = json.loads(line)
    uid, gid = sender()
    assert before <= told.pop("timestamp") <= time.time()
    assert told == {
        "queue": 1,
        "id": 1,
        "verdict": "accept",
        "hook": "NF_INET_LOCAL_OUT",
        "family": "AF_INET",
        "indev": None,
        "indev_index": 0,
        "outdev": "lo",
        "outdev_index": socket.if_nametoindex("lo"),
        "physindev": None,
        "physindev_index": 0,
        "physoutdev": None,
        "physoutdev_index": 0,
        "hw_addr": None,
        "hw_protocol": 0x800,
        "l2_header": None,
        "vlan": None,
        "mark": 0,
        "priority": 0,
        "skb_info": [],
        "uid": uid,
        "gid": gid,
        "cgroup_classid": 0,
        "secctx": None,
        "ct_info": None,
        "conntrack": None,
        "saddr": "127.0.0.1",
        "daddr": "127.0.0.1",
        "extensions": [],
        "protocol": "udp",
        "sport": QUEUED_PORT,
        "dport": PORT,
        "flags": None,
        "icmp_type": None,
        "icmp_code": None,
        "dns": None,
        "tls_server_name": None,
        "http": None,
        "length": 32,
        "data_length": 4,
        "truncated": False,
        "payload": told["payload"],
    }
    assert bytes.fromhex(told["payload"])[28:] == b"data"


@pytest.mark.parametrize(
    ("name", "encoding", "shown"),
    [("\x1b[31m\udcff", "utf-8", "?[31m?"), ("é", "utf-8", "é"), ("é", "ascii", "\\xe9")],
    ids=["control", "utf-8", "ascii"],
)
def test_device_name(
    name: str, encoding: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any device name harms no terminal, and ends nothing."""
    down("lo")
    run(f"ip link set lo name '{name}'")
    run(f"ip link set '{name}' up")
    queue_rule(1)
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    path = tmp_path / "written.pcapng"
    with UdpPair() as udp, watching(tmp_path, "--write", path, "--count", 1) as program:
        udp.send(b"data")
        program.ends()
    assert f" accept >{shown} IP " in program.output
    with RawPcapNgReader(str(path)) as reader:
        packets: list[tuple[bytes, Any]] = list(reader)
    assert [meta.ifname for _, meta in packets] == [os.fsencode(name)]


def test_write(tmp_path: Path) -> None:
    """--write makes a pcapng file of shown packets: devices, directions, times and verdicts."""
    queue_rule(1)
    queue_rule(1, chain="PREROUTING")
    path = tmp_path / "written.pcapng"
    before = time.time()
    with UdpPair() as udp, watching(tmp_path, "--write", path, "--count", 2) as program:
        udp.send(b"data")
        assert udp.recv() == b"data"
        program.ends()
    with RawPcapNgReader(str(path)) as reader:
        packets: list[tuple[bytes, Any]] = list(reader)
    assert [(meta.ifname, meta.direction, meta.linktype) for _, meta in packets] == [
        (b"lo", 2, 113),
        (b"lo", 1, 113),
    ]
    uids = [sender()[0], None]
    assert [meta.comments for _, meta in packets] == [
        [f"accept, mark 0x0, uid {uid}".encode()] for uid in uids
    ]
    for data, meta in packets:
        assert before - 1 <= ((meta.tshigh << 32) + meta.tslow) / 1e6 <= time.time()
        datagram = IP(data[16:])
        assert (datagram[UDP].sport, datagram[UDP].dport) == (QUEUED_PORT, PORT)
        assert datagram[UDP].payload.original == b"data"
        assert data[14:16] == b"\x08\x00"


def test_written_without_packets(tmp_path: Path) -> None:
    """A file without packets is one that tools can read."""
    path = tmp_path / "written.pcapng"
    path.write_bytes(bytes(10_000))  # what an earlier run has left
    with watching(tmp_path, "--write", path) as program:
        program.end(signal.SIGTERM)
    with RawPcapNgReader(str(path)) as reader:
        assert list(reader) == []


def test_written_at_once(udp: UdpPair, tmp_path: Path) -> None:
    """A packet can be read while others are still waited for."""
    path = tmp_path / "written.pcapng"
    with watching(tmp_path, "--write", path) as program:
        udp.send(b"data")
        program.wait_for("\n")
        with RawPcapNgReader(str(path)) as reader:
            assert len(list(reader)) == 1
        program.end(signal.SIGTERM)


def test_written_to_a_pipe(udp: UdpPair, tmp_path: Path) -> None:
    """`--write -` sends a capture to another program, at once, and nothing else."""
    reader, writer = os.pipe()
    with (
        watching(tmp_path, "--write", "-", "--count", 2, output=writer) as program,
        open(reader, "rb") as pipe,
    ):
        os.close(writer)
        udp.send(b"1")
        packets: Any = RawPcapNgReader(pipe)  # type: ignore[arg-type]
        first, meta = next(packets)
        udp.send(b"2")
        second, _ = next(packets)
        program.ends()
        assert next(packets, None) is None
    assert meta.comments == [f"accept, mark 0x0, {as_this_user()}".encode()]
    assert [IP(data[16:])[UDP].payload.original for data in (first, second)] == [b"1", b"2"]
    assert udp.arrivals() == [b"1", b"2"]
    assert "2 packets shown" in program.errors


def test_written_to_a_redirected_output(udp: UdpPair, tmp_path: Path) -> None:
    """A file that the shell has opened is not emptied: `>>` adds a section."""
    path = tmp_path / "written.pcapng"
    for data in (b"1", b"2"):
        with path.open("ab") as file:
            options = ["--write", "-", "--count", 1]
            with watching(tmp_path, *options, output=file.fileno()) as program:
                udp.send(data)
                program.ends()
    with RawPcapNgReader(str(path)) as reader:
        assert [IP(data[16:])[UDP].payload.original for data, _ in reader] == [b"1", b"2"]


def test_written_to_a_pipe_that_breaks(udp: UdpPair, tmp_path: Path) -> None:
    """When nobody reads the capture any more, watch ends silently, and no packet is lost."""
    reader, writer = os.pipe()
    with watching(tmp_path, "--write", "-", output=writer) as program:
        os.close(writer)
        os.close(reader)
        udp.send(b"1")
        program.ends()
    assert udp.arrivals() == [b"1"]
    assert program.errors.endswith(" overruns\n0 packets cut short\n")


def test_not_written_to_a_terminal(tmp_path: Path) -> None:
    """A capture is not written to a terminal: a line says so, and nothing is bound."""
    leader, follower = os.openpty()
    done = subprocess.run(
        [*COMMAND, "watch", "1", "--write", "-"],
        stdout=follower,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(follower)
    os.close(leader)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("libnetfilterqueue watch: --write -: standard output is a terminal")


def test_disk_full(udp: UdpPair, tmp_path: Path) -> None:
    """When the disk is full watch says so and ends; no packet is without its verdict."""
    with watching(tmp_path, "--write", "/dev/full") as program:
        udp.send(*[bytes(1000)] * 20)
        assert program.process.wait(TIMEOUT) == 1
    assert "libnetfilterqueue watch: No space left on device\n" in program.errors
    assert "Traceback" not in program.errors
    assert udp.arrivals() == [bytes(1000)] * 20


def test_broken_pipe(udp: UdpPair, tmp_path: Path) -> None:
    """When nobody reads its lines any more watch ends, and no packet is lost."""
    reader, writer = os.pipe()
    with watching(tmp_path, output=writer) as program:
        os.close(writer)
        udp.send(b"1")
        assert re.search(DATAGRAM.encode(), os.read(reader, 1000))
        os.close(reader)
        program.process.send_signal(signal.SIGSTOP)
        sent = [b"%d" % number for number in range(2, IN_FLIGHT)]
        udp.send(*sent)
        program.process.send_signal(signal.SIGCONT)
        program.ends()
    assert program.errors.endswith(" overruns\n0 packets cut short\n")
    assert udp.arrivals() == [b"1", *sent]


@pytest.mark.parametrize(("options", "dropped"), [([], 76), (["--fail-open"], 0)])
def test_overload(tmp_path: Path, options: list[str], dropped: int) -> None:
    """Packets that the full queue drops are counted; with --fail-open they pass."""
    queue_rule(1, f"-p udp --dport {PORT}")
    arrived = Counter("INPUT", f"-p udp --dport {PORT}")
    with contextlib.ExitStack() as stack, watching(tmp_path, *options) as program:
        program.process.send_signal(signal.SIGSTOP)
        receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind(("127.0.0.1", PORT))
        for _ in range(11):
            sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sender.connect(("127.0.0.1", PORT))
            for _ in range(100):
                sender.send(b"")
        program.process.send_signal(signal.SIGCONT)
        program.wait_for("\n", 1024)
        program.end(signal.SIGTERM)
    assert arrived.packets == 1100 - dropped
    told = f"\n{dropped} packets dropped by the kernel: queue full\n"
    assert told in program.errors or "only root can read this" in program.errors


def finished(*arguments: str, under: list[str]) -> "subprocess.CompletedProcess[str]":
    command = [*under, *COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def test_without_privileges(tmp_path: Path) -> None:
    """Without privileges a line says what is missing."""
    done = finished("watch", "1", under=only())
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert re.match(r"libnetfilterqueue watch: create_queue\(1\).*CAP_NET_ADMIN", line)


def test_number_is_taken(handle: nfq.NetfilterQueueHandle, tmp_path: Path) -> None:
    """If the number is taken a line says who has it, and the file of --write stays."""
    path = tmp_path / "written.pcapng"
    path.write_text("packets")
    handle.create_queue(1, print)
    done = finished("watch", "1", "--write", str(path), under=[])
    assert path.read_text() == "packets"
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.match(r"libnetfilterqueue watch: create_queue\(1\).*bound by another ", line)


def test_file_can_not_be_written(tmp_path: Path) -> None:
    """If a file can't be written a line names it, and nothing is bound."""
    path = tmp_path / "missing" / "file"
    done = finished("watch", "1", "--write", str(path), under=[])
    assert done.returncode == 1
    assert done.stderr == f"libnetfilterqueue watch: {path}: No such file or directory\n"


def test_file_without_a_name() -> None:
    """An empty file name is not as if there were no --write."""
    done = finished("watch", "1", "--count", "1", "--write", "", under=[])
    assert done.returncode == 1
    assert done.stderr == "libnetfilterqueue watch: .: Is a directory\n"


def test_terminal(udp: UdpPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the verdict is coloured, and a line is not wrapped by us."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    leader, follower = os.openpty()
    with watching(tmp_path, "--count", 1, output=follower) as program:
        os.close(follower)
        udp.send(b"data")
        output = os.read(leader, 1000)
        program.ends()
    os.close(leader)
    assert output.count(b"\n") == 1
    assert b"\x1b[32maccept" in output
    assert not re.search(rb"\x1b\[[0-9;]*3[37]m", output)  # yellow and white are for black only
