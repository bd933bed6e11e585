# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.testing: what the fake kernel offers beyond what it has from the real one."""

import array
import asyncio
import errno
import math
import os
import pydoc
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trio
from kernels import udp_packet
from netns import TIMEOUT, background
from played_kernel import (
    MSG_CONFIG,
    MSG_VERDICT,
    NFQA_L2HDR,
    NFQA_VERDICT_HDR,
    NFQA_VLAN,
    NLM_F_REQUEST,
    attribute,
    message,
)
from queues import Handle, Packet, accept
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

import libnetfilterqueue as nfq
from libnetfilterqueue import aio
from libnetfilterqueue.testing import (
    Attributes,
    FakeKernel,
    KernelPacket,
    KernelQueue,
    Refusal,
    SentVerdict,
)
from libnetfilterqueue.testing import _peer as peers
from libnetfilterqueue.testing import _waiting as waiting

COPY = nfq.NFQNL_COPY_PACKET
ALL_FLAGS = (
    nfq.NFQA_CFG_F_CONNTRACK | nfq.NFQA_CFG_F_GSO | nfq.NFQA_CFG_F_UID_GID | nfq.NFQA_CFG_F_SECCTX
)
REAL_OPEN = nfq.open

# Most look at what is there while packets wait.
pytestmark = pytest.mark.nfqueue(allow_undecided=True)


@pytest.fixture
def handle(nfqueue: FakeKernel) -> Iterator[Handle]:
    """An open handle of the fake kernel."""
    with nfq.open() as handle:
        yield handle


def keeping(handle: Handle, number: int = 1, **settings: Any) -> list[Packet]:
    """The packets of a queue, once they are processed."""
    packets: list[Packet] = []
    handle.create_queue(number, packets.append, **{"mode": COPY, **settings})
    return packets


# What comes with a packet

ATTRIBUTES: dict[str, tuple[Attributes, dict[str, object]]] = {
    "mark": ({"mark": 0xFFFFFFFF}, {"mark": 0xFFFFFFFF}),
    "priority": ({"priority": 0x10002}, {"priority": 0x10002}),
    "family": ({"family": 10, "hw_protocol": 0x86DD}, {"family": 10, "hw_protocol": 0x86DD}),
    "hook": ({"hook": nfq.NF_INET_FORWARD}, {"hook": nfq.NF_INET_FORWARD}),
    "hw_addr": ({"hw_addr": b"\2\0\0\0\0\1"}, {"hw_addr": b"\2\0\0\0\0\1"}),
    "timestamp": ({"timestamp": 1.5}, {"timestamp": 1.5}),
    "epoch": ({"timestamp": 0.0}, {"timestamp": 0.0}),
    "devices": (
        {"indev": 1, "outdev": 2, "physindev": 3, "physoutdev": 4},
        {"indev": 1, "outdev": 2, "physindev": 3, "physoutdev": 4},
    ),
    "uid": ({"uid": 0, "gid": 65534}, {"uid": 0, "gid": 65534}),
    "secctx": ({"secctx": b"system_u:object_r:dns_t"}, {"secctx": b"system_u:object_r:dns_t"}),
    "class": ({"cgroup_classid": 0x100001}, {"cgroup_classid": 0x100001}),
    "skb_info": ({"skb_info": 7}, {"skb_info": 7}),
    "original_length": ({"original_length": 99}, {"original_length": 99, "truncated": True}),
    "vlan": ({"vlan": (0x8100, 5)}, {"family": 7, "vlan": nfq.Vlan(0x8100, 5)}),
    "l2_header": ({"l2_header": bytes(14)}, {"family": 7, "l2_header": bytes(14), "vlan": None}),
    "no bridge": (
        {"family": 2, "vlan": (0x8100, 5), "l2_header": bytes(14)},
        {"family": 2, "vlan": None, "l2_header": None},
    ),
    "ct_info": ({"conntrack": {}, "ct_info": 1}, {"ct_info": 1}),
    "none": (
        {},
        {
            "mark": 0,
            "priority": 0,
            "hook": nfq.NF_INET_LOCAL_OUT,
            "hw_addr": b"",
            "timestamp": None,
            "indev": 0,
            "outdev": 0,
            "uid": None,
            "secctx": None,
            "skb_info": 0,
            "conntrack": None,
            "ct_info": None,
            "truncated": False,
        },
    ),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes(nfqueue: FakeKernel, handle: Handle, name: str) -> None:
    """Each attribute comes with a packet as the test has named it."""
    given, expected = ATTRIBUTES[name]
    packets = keeping(handle, flags=ALL_FLAGS)
    nfqueue.enqueue(udp_packet(0, b"data"), **given)
    assert handle.process() == 1
    assert {name: getattr(packets[0], name) for name in expected} == expected


def test_all_attributes() -> None:
    """Every attribute of a packet can be named."""
    tested = {key for given, _ in ATTRIBUTES.values() for key in given} | {"conntrack"}
    assert set(Attributes.__optional_keys__) == tested
    told_otherwise = {"id", "queue", "payload", "truncated", "verdict"}
    data = {name for name in dir(nfq.NetfilterQueueData) if not name.startswith(("_", "get_"))}
    methods = {"set_verdict", "accept", "drop", "repeat", "requeue"}
    names = {name for name in data if not name.endswith("_name")}
    assert names - methods - told_otherwise == tested


def test_flags(nfqueue: FakeKernel, handle: Handle) -> None:
    """Attributes that need a flag of the queue don't come without."""
    packets = keeping(handle)
    nfqueue.enqueue(b"", uid=1, gid=1, secctx=b"context", skb_info=7, conntrack={}, ct_info=1)
    handle.process()
    (packet,) = packets
    assert (packet.uid, packet.gid, packet.secctx) == (None, None, None)
    assert (packet.conntrack, packet.ct_info) == (None, None)
    assert packet.skb_info == nfq.NFQA_SKB_CSUM_NOTVERIFIED


def test_conntrack(nfqueue: FakeKernel, handle: Handle) -> None:
    """A connection comes as named; its mark and labels are what verdicts make of them."""
    packets = keeping(handle, flags=ALL_FLAGS)
    labels = bytes(range(16))
    sent = nfqueue.enqueue(
        b"",
        conntrack={"id": 7, "status": 8, "mark": 5, "zone": 3, "timeout": 30, "labels": labels},
    )
    new = nfqueue.enqueue(b"", conntrack={})
    alone = nfqueue.enqueue(b"")
    handle.process()
    entry = packets[0].conntrack
    assert entry is not None
    assert entry[:6] == (7, 8, 5, labels, 3, 30)
    assert packets[0].ct_info == 2
    entry = packets[1].conntrack
    assert entry is not None
    assert entry[:6] == (None, None, 0, None, None, None)
    for packet in packets:
        packet.set_verdict(nfq.NF_ACCEPT, ct_mark=9, ct_labels=bytes(15) + b"\1")
    assert (sent.ct_mark, sent.ct_labels) == (9, bytes(15) + b"\1")
    assert (new.ct_mark, new.ct_labels) == (9, bytes(15) + b"\1")
    assert (alone.ct_mark, alone.ct_labels) == (None, None)


@pytest.mark.nfqueue(allow_refused=True)
def test_bridge(nfqueue: FakeKernel, handle: Handle) -> None:
    """On a bridge verdicts change tag and header; a header of another length loses the packet."""
    packets = keeping(handle)
    tagged = nfqueue.enqueue(b"", vlan=(0x8100, 1), l2_header=bytes(14))
    untagged = nfqueue.enqueue(b"", vlan=(0x8100, 1))
    routed = nfqueue.enqueue(b"")
    lost = nfqueue.enqueue_all([b"", b""], l2_header=bytes(14))
    handle.process()
    packets[0].set_verdict(nfq.NF_ACCEPT, vlan=(0x88A8, 2), l2_header=b"\1" * 14)
    packets[1].set_verdict(nfq.NF_ACCEPT, vlan=(0, 0))
    packets[2].set_verdict(nfq.NF_ACCEPT, vlan=(0x88A8, 2))
    # The extension never sends these.
    half_a_tag = attribute(NFQA_VLAN, attribute(2, b"\0\1"))
    for packet_id, wrong in ((4, attribute(NFQA_L2HDR, bytes(18))), (5, half_a_tag)):
        verdict = attribute(NFQA_VERDICT_HDR, struct.pack("!II", nfq.NF_ACCEPT, packet_id))
        body = struct.pack("!BBH", 0, 0, 1) + verdict + wrong
        with socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.send(message(MSG_VERDICT, body, packet_id, NLM_F_REQUEST))
    assert [packet.passed for packet in lost] == [False, False]
    assert [refusal.error for refusal in nfqueue.refusals] == [errno.EINVAL] * 2
    assert (tagged.vlan, tagged.l2_header) == ((0x88A8, 2), b"\1" * 14)
    assert (untagged.vlan, routed.vlan) == (None, None)


def test_payloads(nfqueue: FakeKernel, handle: Handle) -> None:
    """Payloads are buffers of any kind, or scapy's packets; the version tells their family."""
    packets = keeping(handle)
    ipv6 = IPv6() / UDP()
    payloads: list[Any] = [
        b"\x45",
        bytearray(b"\x60"),
        memoryview(b"\x60"),
        array.array("B", b"\x45"),
        ipv6,
    ]
    sent = nfqueue.enqueue_all(payloads)
    handle.process()
    assert [packet.family for packet in packets] == [2, 10, 10, 2, 10]
    assert [packet.hw_protocol for packet in packets] == [0x800, 0x86DD, 0x86DD, 0x800, 0x86DD]
    assert [packet.get_payload() for packet in packets] == [packet.payload for packet in sent]
    assert sent[4].payload == bytes(ipv6)


WRONG: dict[str, tuple[type[Exception], str, dict[str, object]]] = {
    "mark": (ValueError, "mark must be from 0 to 0xffffffff", {"mark": 1 << 32}),
    "negative": (ValueError, "uid must be from 0 to 0xffffffff, not -1", {"uid": -1}),
    "hook": (ValueError, "hook must be from 0 to 0xff, not 256", {"hook": 256}),
    "number": (ValueError, "number must be from 0 to 0xffff, not 65536", {"number": 0x10000}),
    "hw_addr": (ValueError, "hw_addr must have at most 8 bytes, not 9", {"hw_addr": bytes(9)}),
    "long header": (ValueError, "l2_header must have at most 65531", {"l2_header": bytes(1 << 16)}),
    "labels": (ValueError, "conntrack: labels must have 16 bytes", {"conntrack": {"labels": b"1"}}),
    "vlan": (ValueError, "vlan: tci must be from 0 to 0xffff", {"vlan": (0x8100, 0x10000)}),
    "time": (ValueError, "timestamp must not be negative", {"timestamp": -1.0}),
    "no time": (ValueError, "timestamp must be a number of seconds", {"timestamp": float("nan")}),
    "rule": (ValueError, "match_mark must be from 0 to 0xffffffff", {"match_mark": -1}),
    "payload": (TypeError, "not 'int'", {"payload": 5}),
    "text": (TypeError, "not 'str'", {"payload": "5"}),
    # Another type than the one that is meant
    "device": (TypeError, "indev must be an int, the index of an interface", {"indev": "eth0"}),
    "index": (TypeError, r"socket\.if_nametoindex\('lo'\) returns 1", {"physindev": "lo"}),
    "user": (TypeError, "uid must be an int, not str: 'root'", {"uid": "root"}),
    "address": (TypeError, "hw_addr must be bytes, not str", {"hw_addr": "02:00:00:00:00:01"}),
    "date": (TypeError, "timestamp must be a number of seconds, not str", {"timestamp": "now"}),
    "tag": (TypeError, r"vlan must be a pair \(proto, tci\), not int: 5", {"vlan": 5}),
    "half a tag": (TypeError, r"vlan must be a pair \(proto, tci\), not tuple", {"vlan": (5,)}),
    "tags": (TypeError, "vlan: proto must be an int, not str", {"vlan": ("802.1Q", 1)}),
    "connection": (TypeError, "conntrack must be a dict, not int: 1", {"conntrack": 1}),
    "queue's number": (TypeError, "number must be an int, not str: '1'", {"number": "1"}),
    "mark of a rule": (TypeError, "match_mark must be an int, not str", {"match_mark": "1"}),
    # Another name than the one that is meant
    "unknown": (
        TypeError,
        "no attribute of a packet is named 'colour': they are cgroup_classid, conn",
        {"colour": 1},
    ),
    "queue": (TypeError, "'queue': do you mean 'number'", {"queue": 2}),
    "queue_num": (TypeError, "'queue_num': do you mean 'number'", {"queue_num": 2}),
    "nfmark": (TypeError, "'nfmark': do you mean 'mark'", {"nfmark": 1}),
    "in_dev": (TypeError, "'in_dev': do you mean 'indev'", {"in_dev": 1}),
    "length": (TypeError, "'length': do you mean 'original_length'", {"length": 1}),
    "queue_bypass": (TypeError, "'queue_bypass': do you mean 'bypass'", {"queue_bypass": True}),
    "entry": (TypeError, "conntrack: .* 'marc': do you mean 'mark'", {"conntrack": {"marc": 1}}),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_attributes(nfqueue: FakeKernel, name: str) -> None:
    """Impossible attributes are refused at once, and the error says what would be right."""
    error, message, arguments = WRONG[name]
    enqueue: Callable[..., object] = nfqueue.enqueue
    with pytest.raises(error, match=message):
        enqueue(**{"payload": b"", **arguments})


def test_wrong_arguments(nfqueue: FakeKernel) -> None:
    """Wrong arguments of the other calls are refused; none waits for what can't come true."""
    enqueue_all: Callable[..., object] = nfqueue.enqueue_all
    calls: list[tuple[type[Exception], str, Callable[..., object], tuple[object, ...]]] = [
        (TypeError, "listening\\(\\): number must be an int", nfqueue.listening, ("1",)),
        (ValueError, "listening\\(\\): number must be from 0", nfqueue.listening, (0x10000,)),
        (TypeError, "flush\\(\\) takes packets, one by one, not list", nfqueue.flush, ([],)),
        (
            TypeError,
            "'queue': do you mean 'number'",
            lambda: enqueue_all([b""], queue=2),
            (),
        ),
        (TypeError, "timeout must be a number of seconds", nfqueue.listening().wait, ("5",)),
        (TypeError, "timeout must be a number of seconds", nfqueue.listening().wait, (None,)),
        (ValueError, "timeout must be a finite number", nfqueue.listening().wait, (math.inf,)),
    ]
    for error, what, call, arguments in calls:
        with pytest.raises(error, match=what):
            call(*arguments)


def test_left_out(nfqueue: FakeKernel, handle: Handle) -> None:
    """An attribute that is None is left out, as a packet has it without."""
    packets = keeping(handle, flags=ALL_FLAGS)
    nothing: Any = dict.fromkeys(Attributes.__optional_keys__)
    nfqueue.enqueue(b"", **nothing)
    handle.process()
    expected = ATTRIBUTES["none"][1]
    assert {name: getattr(packets[0], name) for name in expected} == expected


# What a test sees


def test_fate(nfqueue: FakeKernel, handle: Handle) -> None:
    """A packet tells where it is, what verdicts it had, and its last state, without any wait."""
    other = keeping(handle, 2)
    handle.create_queue(1, lambda packet: packet.requeue(2), mode=COPY)
    packet = nfqueue.enqueue(b"data", mark=1)
    assert (packet.passed, packet.verdict, packet.verdicts) == (None, None, ())
    assert (packet.number, packet.id) == (1, 1)
    assert repr(packet) == ("<KernelPacket 1 of queue 1: 4 bytes, mark 0x1, verdict None, waiting>")
    handle.process()
    assert (packet.number, packet.id, packet.passed) == (2, 1, None)
    assert packet.verdict == nfq.NF_QUEUE_NR(2)
    assert handle.process(timeout=TIMEOUT) == 1
    other[0].set_verdict(nfq.NF_ACCEPT, mark=2, priority=3, payload=b"more data")
    assert packet.verdict is nfq.NF_ACCEPT
    assert packet.verdicts == (
        SentVerdict(1, 1, nfq.NF_QUEUE_NR(2), batch=False),
        SentVerdict(2, 1, nfq.NF_ACCEPT, batch=False, mark=2, payload=b"more data", priority=3),
    )
    assert (packet.payload, packet.mark, packet.priority) == (b"more data", 2, 3)
    assert repr(packet) == (
        "<KernelPacket 1 of queue 2: 9 bytes, mark 0x2, verdict NF_ACCEPT, passed>"
    )


def test_help() -> None:
    """A packet's attributes can be looked up on the class, and by help()."""
    for name in ("passed", "verdicts", "payload", "mark"):
        assert getattr(KernelPacket, name) is vars(KernelPacket)[name]
        assert re.search(rf"\b{name}\b", pydoc.plain(pydoc.render_doc(KernelPacket)))


def test_batch(nfqueue: FakeKernel, handle: Handle) -> None:
    """A batch verdict is listed at each packet that it covered."""
    handle.create_queue(1, accept, mode=COPY)
    packets = nfqueue.enqueue_all([b"1", b"2", b"3"])
    handle.process()
    expected = SentVerdict(1, 3, nfq.NF_ACCEPT, batch=True)
    assert [packet.verdicts for packet in packets] == [(expected,)] * 3


def test_ids_wrap(nfqueue: FakeKernel) -> None:
    """Ids wrap, and a batch verdict goes on over the end of them."""
    with FakeKernel(first_id=0xFFFFFFFE) as kernel, kernel.open() as handle:
        packets = keeping(handle)
        sent = kernel.enqueue_all([b"1", b"2", b"3", b"4"])
        handle.process()
        assert [packet.id for packet in packets] == [0xFFFFFFFE, 0xFFFFFFFF, 0, 1]
        packets[0].queue.set_verdict_batch(nfq.NF_ACCEPT, 0)
        assert [packet.passed for packet in sent] == [True, True, True, None]


@pytest.mark.parametrize("first_id", [0, 1 << 32])
def test_wrong_first_id(first_id: int) -> None:
    """The first id is one that a kernel begins with, or comes to."""
    with pytest.raises(ValueError, match="first_id"):
        FakeKernel(first_id=first_id)


def test_queues(nfqueue: FakeKernel, handle: Handle) -> None:
    """The kernel shows how queues are configured, and queue_status() what it shows everybody."""
    assert nfqueue.queues == {}
    flags = nfq.NFQA_CFG_F_FAIL_OPEN | nfq.NFQA_CFG_F_GSO
    keeping(handle, 5, range=100, maxlen=2, flags=flags)
    keeping(handle, 4, mode=nfq.NFQNL_COPY_META, maxlen=0)
    with nfq.open() as other:
        other.create_queue(6, accept, mode=None)
        nfqueue.enqueue(b"", 4)
        nfqueue.enqueue_all([b""] * 3, 5)
        none, meta, full = nfq.NFQNL_COPY_NONE, nfq.NFQNL_COPY_META, nfq.NFQNL_COPY_PACKET
        assert nfqueue.queues == {
            4: KernelQueue(4, 1, 0, meta, 0, 0, nfq.QueueFlag(0), 1, 0, 0),
            5: KernelQueue(5, 1, 2, full, 100, 2, flags, 0, 0, 2),
            6: KernelQueue(6, 2, 0, none, 65531, 1024, nfq.QueueFlag(0), 0, 0, 0),
        }
        assert nfq.queue_status() == [
            (4, 1, 0, meta, 0, 1, 0, 0),
            (5, 1, 2, full, 100, 0, 0, 2),
            (6, 2, 0, none, 65531, 0, 0, 0),
        ]
    assert list(nfqueue.queues) == [4, 5]


@pytest.mark.nfqueue(allow_refused=True)
def test_refusals(nfqueue: FakeKernel, handle: Handle) -> None:
    """Refused verdicts are listed."""
    packets = keeping(handle)
    sent = nfqueue.enqueue(b"data")
    handle.process()
    nfqueue.flush(sent)
    nfqueue.flush(sent)
    assert (sent.passed, sent.verdict) == (False, None)
    assert nfqueue.refusals == []
    packets[0].accept()
    assert nfqueue.refusals == [Refusal(1, 1, errno.ENOENT)]
    assert (sent.passed, sent.verdict) == (False, None)


def test_full_buffer(nfqueue: FakeKernel, handle: Handle) -> None:
    """Configuration works while the receive buffer is full, and what is lost is counted."""
    packets = keeping(handle)
    handle.rcvbuf = 4096
    nfqueue.enqueue_all([bytes(1000)] * 10)
    packets_before = nfqueue.queues[1]
    assert packets_before.user_dropped == 10 - packets_before.waiting > 0
    keeping(handle, 2)
    assert list(nfqueue.queues) == [1, 2]
    handle.process()
    assert len(packets) == packets_before.waiting


# Who runs it


@pytest.fixture(params=["root", "nobody", "nearly nothing"])
def anybody(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Socket pairs have as much room as for one with privileges, for one without, or even less."""
    if request.param != "root":
        monkeypatch.setattr(peers, "SO_SNDBUFFORCE", socket.SO_SNDBUF)
        size = 106_496 if request.param == "nobody" else 2304
        monkeypatch.setattr(peers, "SNDBUF", size)  # the system doubles it


def test_untouched_buffer(anybody: None, nfqueue: FakeKernel) -> None:
    """The receive buffer has room for as many packets whoever runs the test."""
    with nfq.open() as handle:
        assert handle.rcvbuf == 212_992
        packets = keeping(handle, rcvbuf=0)
        nfqueue.enqueue_all([bytes(1500)] * 200)
        assert nfqueue.queues[1].user_dropped == 200 - 92
        assert handle.process(max_packets=200) == 92
        handle.rcvbuf = 1152
        assert handle.rcvbuf == 2304
        nfqueue.enqueue_all([bytes(1500)] * 2)
        assert handle.process(max_packets=200) == 1
        assert [packet.id for packet in packets] == [*range(1, 93), 201]


def test_large_buffer(anybody: None, nfqueue: FakeKernel) -> None:
    """Nothing is lost where the buffer has room, and process() finds all, though it never waits."""
    with nfq.open() as handle:
        handle.rcvbuf = 1 << 25
        assert handle.rcvbuf == 1 << 26
        packets = keeping(handle, maxlen=5000)
        sent = nfqueue.enqueue_all([bytes(1000)] * 1000)
        while handle.process():
            pass
        assert [packet.id for packet in packets] == [packet.id for packet in sent]
        assert handle.process() == 0


def test_full_socket_pair(anybody: None, nfqueue: FakeKernel) -> None:
    """Configuration works while packets wait for room, and answers come behind them."""
    with nfq.open() as handle:
        packets = keeping(handle, rcvbuf=0)
        sent = nfqueue.enqueue_all([bytes(1000)] * 100)
        waiting = nfqueue.queues[1].waiting
        assert nfqueue.queues[1].user_dropped == 100 - waiting == 8
        keeping(handle, 2)
        assert list(nfqueue.queues) == [1, 2]
        assert handle.process(max_packets=100) == waiting
        for packet in packets:
            packet.accept()
        assert sum(packet.passed is True for packet in sent) == waiting


@pytest.mark.parametrize("payload", [None, bytes(2000)])
def test_many_verdicts(anybody: None, nfqueue: FakeKernel, payload: bytes | None) -> None:
    """Thousands of verdicts without a pause all arrive: the kernel takes them at once."""
    with nfq.open() as handle:
        handle.rcvbuf = 1 << 25
        packets: list[Packet] = []
        handle.create_queue(
            1, packets.append, mode=COPY, maxlen=5000, default_verdict=nfq.NF_ACCEPT
        )
        sent = nfqueue.enqueue_all([b"data"] * 1000)
        while handle.process():
            pass
        for packet in packets[:500]:
            packet.accept(payload=payload)
        packets.clear()  # the others get the queue's default, one by one
        assert [packet.id for packet in sent if not packet.passed] == []
        assert nfqueue.refusals == []


@pytest.mark.parametrize("read", [0, 1, 500])
def test_close_under_load(anybody: None, nfqueue: FakeKernel, read: int) -> None:
    """A handle that closes is unbound, whatever waits in either direction."""
    with nfq.open() as handle:
        handle.rcvbuf = 1 << 25
        packets = keeping(handle, maxlen=5000)
        sent = nfqueue.enqueue_all([bytes(1000)] * 1000)
        while len(packets) < read:
            handle.process(max_packets=read - len(packets))
        for packet in packets:
            packet.accept(payload=bytes(1000))
    assert nfqueue.queues == {}
    assert [packet.passed for packet in sent] == [True] * read + [False] * (1000 - read)
    with nfq.open() as handle:
        keeping(handle)
        assert nfqueue.queues[1].portid == 2


class ClosingPair(socket.socket):
    """A socket whose other end is closed as soon as somebody has looked at what it has sent."""

    other: socket.socket

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        received = super().recv_into(buffer, nbytes, flags)
        self.other.close()
        return received


def test_close_between_two_calls() -> None:
    """What a handle has sent arrives, also if it closes meanwhile with something unread."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(b"unread")
    theirs.send(b"first")
    theirs.send(b"second")
    with ClosingPair(fileno=ours.detach()) as closing:
        closing.other = theirs
        peer = peers.Peer(1, "here")
        peer._ours.close()
        peer._theirs.close()
        peer._ours = closing
        assert list(peer.receive()) == [b"first", b"second"]
        assert peer.ended


def test_last_copy(nfqueue: FakeKernel, handle: Handle) -> None:
    """A queue that nobody unbinds ends with the last copy of its descriptor, as in the kernel."""
    command = attribute(1, struct.pack("!BBH", 1, 0, 0))  # NFQA_CFG_CMD: bind
    body = struct.pack("!BBH", 0, 0, 5) + command
    with socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.send(message(MSG_CONFIG, body, 1, NLM_F_REQUEST))
        handle.close()
        assert list(nfqueue.queues) == [5]
    assert nfqueue.queues == {}


def test_socket(nfqueue: FakeKernel, handle: Handle) -> None:
    """What the handle's socket does not have of a netlink socket, as the page says."""
    keeping(handle)
    nfqueue.enqueue(b"data")
    with socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        data, address = sock.recvfrom(66000)
        assert handle.handle_packet(data) == 1
        assert address is None
        assert sock.getsockname() == ""
    with pytest.raises(OSError, match="not a netlink socket"):
        handle.no_enobufs = True


def test_kernel_ends_first(nfqueue: FakeKernel) -> None:
    """A handle whose kernel is closed gets an error, and does not wait for ever."""
    with FakeKernel() as kernel:
        handle = kernel.open()
        keeping(handle)
        waiting = background(lambda: handle.process(timeout=None))
    with pytest.raises(ConnectionResetError, match="the other end of the descriptor is closed"):
        waiting.result(TIMEOUT)
    with pytest.raises(ConnectionResetError):
        handle.process()
    handle.close()


def test_end_is_noticed(nfqueue: FakeKernel) -> None:
    """A test that waits for a packet notices the end of its handle."""
    handle = nfq.open()
    keeping(handle)
    packet = nfqueue.enqueue(b"data")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(packet.wait)
        handle.close()
        assert waiting.result(TIMEOUT).passed is False


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_fork(nfqueue: FakeKernel, handle: Handle) -> None:
    """A child of fork has no kernel: it neither waits for it nor takes its messages."""
    handle.create_queue(1, accept, mode=COPY)
    packet = nfqueue.enqueue(b"data")
    child = os.fork()
    if child == 0:
        signal.alarm(int(TIMEOUT))
        try:
            for call in (nfqueue.open, nfqueue.listening().wait, lambda: packet.passed):
                with pytest.raises(RuntimeError, match="child of fork"):
                    call()
            nfqueue.close()
        except BaseException:  # noqa: BLE001 (the child must not go on as a second pytest)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    handle.process()
    assert packet.passed


# Loops


def test_wait(nfqueue: FakeKernel, handle: Handle) -> None:
    """A thread waits for a packet's fate, for a queue, and not for ever."""
    with ThreadPoolExecutor() as pool:
        listening = pool.submit(nfqueue.listening(1).wait)
        with pytest.raises(TimeoutError, match="listens on queue 1"):
            nfqueue.listening().wait(0.01)
        queue = handle.create_queue(1, accept, mode=None)
        time.sleep(0.01)
        assert not listening.done()
        queue.set_mode(COPY, 0)
        listening.result(TIMEOUT)
        packet = nfqueue.enqueue(b"data")
        waiting = [pool.submit(packet.wait, timeout) for timeout in (TIMEOUT, TIMEOUT)]
        with pytest.raises(TimeoutError, match="a verdict on a packet of queue 1"):
            packet.wait(timeout=0)
        handle.process()
        assert packet.wait(timeout=0) is packet
        assert [future.result(TIMEOUT) for future in waiting] == [packet, packet]


def test_looking_meanwhile(nfqueue: FakeKernel, handle: Handle) -> None:
    """Verdicts that arrive while a test looks are executed, each of them."""
    packets = keeping(handle, maxlen=3000)
    sent: list[KernelPacket] = []
    while len(sent) < 3000:
        sent += nfqueue.enqueue_all([b""] * 100)
        handle.process(max_packets=100)

    def give() -> None:
        for first in range(0, 3000, 100):  # the socket pair has room for as many
            for packet in packets[first : first + 100]:
                packet.accept()
            sent[first + 99].wait()

    giving = background(give)
    while not giving.done():
        nfqueue.flush()
    giving.result(TIMEOUT)
    assert [packet.id for packet in sent if not packet.passed] == []


async def test_weak_proxies(nfqueue: FakeKernel) -> None:
    """Proxies of objects that are gone, as some libraries have, do not disturb the look."""
    gone = {1}
    proxy = weakref.proxy(gone)
    del gone
    async with aio.open_queue(1) as stream:
        packet = nfqueue.enqueue(b"data")
        (await stream.get()).accept()
        assert (await packet).passed
    nfqueue.check()
    with pytest.raises(ReferenceError):
        len(proxy)


async def test_asyncio(nfqueue: FakeKernel) -> None:
    """Tasks await packets and queues, while their loop runs."""

    async def handler(packet: Packet) -> None:
        await asyncio.sleep(0.01)
        packet.accept(mark=packet.id)

    async def program() -> None:
        async with aio.open_queue(1) as stream:
            await aio.serve(stream, handler)

    running = asyncio.create_task(program())
    await nfqueue.listening(1)
    packet = await nfqueue.enqueue(b"data")
    assert (packet.verdict, packet.mark) == (nfq.NF_ACCEPT, 1)
    packets = nfqueue.enqueue_all([b"data"] * 10)
    for packet in await asyncio.gather(*packets):
        assert packet.passed
    assert await packet is packet
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await nfqueue.listening(2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert nfqueue.queues == {}


# Programs that die


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are shorter, for tests whose waits are in vain."""
    monkeypatch.setattr(waiting, "TIMEOUT", 0.05)


async def test_nobody(nfqueue: FakeKernel, short: None) -> None:
    """A task waits as long as a thread does, for a queue and for a packet's fate."""
    with pytest.raises(TimeoutError, match=r"listens on queue 1: not within 0\.05 seconds$"):
        await nfqueue.listening()
    with nfq.open() as handle:
        keeping(handle)
        with pytest.raises(TimeoutError, match="a verdict on a packet of queue 1: not within"):
            await nfqueue.enqueue(b"data")


def program_that_dies() -> None:
    raise ZeroDivisionError("at its start")


async def test_dead_task(nfqueue: FakeKernel, short: None) -> None:
    """The error names the task that has failed, and is caused by its exception."""

    async def program() -> None:
        program_that_dies()

    async def other() -> None:
        await asyncio.sleep(TIMEOUT)

    running, dying = (asyncio.create_task(task()) for task in (other, program))
    with pytest.raises(
        TimeoutError, match=r"task .*\(.*program\) failed: ZeroDivisionError\('at its start'\)$"
    ) as raised:
        await nfqueue.listening()
    assert raised.value.__cause__ is dying.exception()
    running.cancel()
    with pytest.raises(TimeoutError, match=r"seconds; task [^;]*$"):
        await nfqueue.listening()  # a task that was cancelled has not failed


def test_dead_thread(nfqueue: FakeKernel) -> None:
    """The error names a thread that has failed, whose exception goes where it went without."""
    told: list[threading.ExceptHookArgs] = []
    with patch.object(threading, "excepthook", told.append), FakeKernel() as kernel:
        with kernel.patched():
            hook = threading.excepthook
            thread = threading.Thread(target=program_that_dies, name="the program")
            thread.start()
            with pytest.raises(
                TimeoutError,
                match=r"thread the program failed: ZeroDivisionError\('at its start'\)$",
            ):
                kernel.listening().wait(0.05)
            assert threading.excepthook == hook
        assert threading.excepthook == told.append
    thread.join()
    assert [arguments.exc_type for arguments in told] == [ZeroDivisionError]


def test_thread_without_patching() -> None:
    """A thread that fails while somebody waits is named, wherever it has its handle from."""
    with FakeKernel() as kernel, patch.object(threading, "excepthook", lambda arguments: None):
        timer = threading.Timer(0.02, program_that_dies)
        timer.start()
        with pytest.raises(TimeoutError, match="ZeroDivisionError"):
            kernel.listening().wait(0.2)
        timer.join()


@pytest.mark.nfqueue(allow_unheard=True)
@pytest.mark.gevent
def test_dead_greenlet(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names a greenlet that has failed."""
    import gevent  # noqa: PLC0415 (not every Python has it)

    dying = gevent.spawn(program_that_dies)
    with pytest.raises(
        TimeoutError, match=r"Greenlet at .*program_that_dies.* failed: ZeroDivisionError"
    ) as raised:
        nfqueue.listening().wait(0.05)
    assert raised.value.__cause__ is dying.exception
    assert "ZeroDivisionError" in capsys.readouterr().err


async def test_wait_in_a_loop(nfqueue: FakeKernel) -> None:
    """wait() in a loop's own thread says why nothing can come true."""
    with pytest.raises(TimeoutError, match="stood still meanwhile: await it instead"):
        nfqueue.listening().wait(0.01)


@pytest.mark.gevent
def test_gevent(nfqueue: FakeKernel) -> None:
    """Greenlets wait for packets while others run, without monkey-patching."""
    import gevent  # noqa: PLC0415 (not every Python has it)

    from libnetfilterqueue import green  # noqa: PLC0415

    def handler(packet: Packet) -> None:
        gevent.sleep(0.01)
        packet.accept()

    with green.open_queue(1) as stream:
        serving = gevent.spawn(green.serve, stream, handler)
        packet = nfqueue.enqueue(b"data").wait()
        assert packet.verdict == nfq.NF_ACCEPT
        waiting = [gevent.spawn(packet.wait) for packet in nfqueue.enqueue_all([b"data"] * 10)]
        assert all(greenlet.get(timeout=TIMEOUT).passed for greenlet in waiting)
    serving.get(timeout=TIMEOUT)


PATCHED = """
from gevent import monkey
monkey.patch_all()
import socket, gevent
import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel

def program():
    with nfq.open() as handle:
        handle.create_queue(1, nfq.NetfilterQueueData.accept, mode=nfq.NFQNL_COPY_PACKET)
        with socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            while True:
                handle.handle_packet(sock.recv(66000))  # blocks its greenlet only

with FakeKernel() as kernel, kernel.patched():
    running = gevent.spawn(program)
    kernel.listening().wait()
    assert kernel.enqueue(b"data").wait().passed
    running.kill()
    assert kernel.queues == {}
"""


@pytest.mark.gevent
def test_patched(tmp_path: Path) -> None:
    """Under monkey-patching the kernel has a thread, and waiting blocks greenlets only."""
    program = tmp_path / "program.py"
    program.write_text(PATCHED)
    subprocess.run([sys.executable, "-W", "error", program], check=True, timeout=TIMEOUT)


def test_trio(nfqueue: FakeKernel, handle: Handle) -> None:
    """trio waits in threads."""
    handle.create_queue(1, accept, mode=COPY)

    async def serve() -> None:
        while True:
            await trio.lowlevel.wait_readable(handle)
            handle.process()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            packet = await trio.to_thread.run_sync(nfqueue.enqueue(b"data").wait)
            assert packet.passed
            nursery.cancel_scope.cancel()

    trio.run(main)


# Its life


def test_patched_open() -> None:
    """open() is the fake kernel's for the length of the block, whatever netns; fd= stays open's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    status = nfq.queue_status
    with FakeKernel() as kernel, ours, theirs:
        with kernel.patched() as patched:
            assert patched is kernel
            with nfq.open(netns="/nowhere") as handle, nfq.open(fd=ours) as adopted:
                keeping(handle)
                assert list(kernel.queues) == [1]
                adopted.flush()
                assert handle.fd() != adopted.fd()
            with pytest.raises(ZeroDivisionError), kernel.patched():
                raise ZeroDivisionError
        assert (nfq.open, nfq.queue_status) == (REAL_OPEN, status)


def test_close() -> None:
    """Closing drops what waits and ends the thread; handles can only be closed then."""
    before = threading.active_count()
    kernel = FakeKernel()
    handle = kernel.open()
    keeping(handle)
    packet = kernel.enqueue(b"data")
    kernel.close()
    kernel.close()
    assert packet.wait().passed is False
    assert threading.active_count() == before
    assert kernel.queues == {}
    for call in (kernel.open, lambda: kernel.enqueue(b"data"), lambda: kernel.flush(packet)):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(ConnectionError):
        handle.create_queue(2, accept)
    handle.close()


def test_nothing_left() -> None:
    """No descriptor and no thread is left when the kernel is closed."""
    descriptors, tasks = Path("/proc/self/fd"), Path("/proc/self/task")
    before = [len(list(directory.iterdir())) for directory in (descriptors, tasks)]
    for _ in range(20):
        with FakeKernel() as kernel, kernel.open() as handle:
            keeping(handle)
    end = time.monotonic() + TIMEOUT
    while len(list(tasks.iterdir())) > before[1]:  # the system takes a moment to end them
        assert time.monotonic() < end
    assert len(list(descriptors.iterdir())) == before[0]


@pytest.mark.nfqueue(allow_refused=True)
def test_verdict_on_the_wire(nfqueue: FakeKernel, handle: Handle) -> None:
    """Broken messages are refused or ignored as netlink does it, and disturb nothing."""
    packets = keeping(handle)
    sent = nfqueue.enqueue(b"data")
    handle.process()
    with socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for datagram in (
            b"",
            b"\1",
            bytes(16),
            struct.pack("=IHHII", 100, 0x301, 1, 0, 0),
            struct.pack("=IHHII", 16, 0x301, 1, 0, 0),
            struct.pack("=IHHII", 16, 0x3FF, 1, 0, 0),
            struct.pack("=IHHII", 20, 0x302, 0, 0, 0) + bytes(4),
        ):
            sock.send(datagram)
    assert nfqueue.refusals == [Refusal(0, None, errno.ENODEV)]
    packets[0].accept()
    assert sent.passed


def test_decide(nfqueue: FakeKernel) -> None:
    """A queue that decides on one packet asks for the attributes that the test names."""

    def callback(packet: Packet) -> None:
        assert (packet.uid, packet.gid, packet.secctx, packet.ct_info) == (1, 2, b"context", 3)
        assert packet.conntrack is not None
        assert packet.skb_info == 3
        packet.accept(mark=packet.conntrack.mark)

    packet = nfqueue.decide(
        callback,
        b"data",
        uid=1,
        gid=2,
        secctx=b"context",
        conntrack={"mark": 5},
        ct_info=3,
        skb_info=3,
    )
    assert packet.mark == 5
