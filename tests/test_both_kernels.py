# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fake kernel does, the real one does too: each test runs on both."""

import errno
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kernels import DROPPED, KERNELS, LOOPBACK_INDEX, Network, Outcome, readable, udp_packet
from netns import TIMEOUT, sender
from played_kernel import (
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    NFQA_VERDICT_HDR,
    NLM_F_REQUEST,
    attribute,
    message,
)
from queues import Handle, Packet, Queue, accept, netlink_socket, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
UNKNOWN_FLAG = (errno.EOPNOTSUPP, errno.EINVAL)  # since Linux 7.1 the latter
Told = list[tuple[int | None, int, int | None]]


@pytest.fixture(params=KERNELS)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Either kernel, whose rule is about queue 1."""
    network = KERNELS[request.param]()
    network.rule()
    yield network
    for handle in network.handles:
        handle.close()
    network.close()


@pytest.fixture
def handle(network: Network) -> Handle:
    return network.open()


def keeping(handle: Handle, number: int = 1, flags: int = 0, **settings: Any) -> list[Packet]:
    """The packets of a queue, once they are processed."""
    packets: list[Packet] = []
    handle.create_queue(number, packets.append, mode=COPY, flags=flags, **settings)
    return packets


def ids(packets: list[Packet]) -> list[int]:
    return [packet.id for packet in packets]


def passed(*data: bytes, mark: int = 0) -> list[Outcome]:
    return [Outcome(True, datagram, mark) for datagram in data]


def listen(handle: Handle) -> Told:
    """What the handle's on_verdict_error is told."""
    told: Told = []
    handle.on_verdict_error = lambda number, packet_id, error: told.append(
        (number, packet_id, error.errno)
    )
    return told


def send(handle: Handle, data: bytes) -> None:
    """Sends to the kernel what the handle never would."""
    with netlink_socket(handle) as sock:
        sock.send(data)


def verdict_message(packet_id: int, number: int = 1, *, batch: bool = False) -> bytes:
    """A verdict that accepts."""
    header = attribute(NFQA_VERDICT_HDR, struct.pack("!II", nfq.NF_ACCEPT, packet_id))
    kind = MSG_VERDICT_BATCH if batch else MSG_VERDICT
    return message(kind, struct.pack("!BBH", 0, 0, number) + header, packet_id, NLM_F_REQUEST)


# What comes with a packet


def test_packet(network: Network, handle: Handle) -> None:
    """A packet comes with the same bytes and attributes."""
    packets = keeping(handle)
    network.send(b"data", mark=5)
    assert handle.process() == 1
    (packet,) = packets
    (ident,) = struct.unpack_from("!H", packet.payload, 4)
    assert packet.get_payload() == udp_packet(0, b"data", ident)
    assert (packet.id, packet.family, packet.hw_protocol) == (1, 2, 0x0800)
    assert (packet.hook, packet.mark, packet.priority) == (nfq.NF_INET_LOCAL_OUT, 5, 0)
    assert (packet.indev, packet.outdev) == (0, LOOPBACK_INDEX)
    assert (packet.physindev, packet.physoutdev, packet.hw_addr) == (0, 0, b"")
    assert (packet.original_length, packet.truncated, packet.skb_info) == (32, False, 0)
    assert (packet.timestamp, packet.vlan, packet.l2_header) == (None, None, None)
    assert (packet.uid, packet.gid, packet.secctx, packet.conntrack) == (None,) * 4


def test_uid_and_gid(network: Network, handle: Handle) -> None:
    """The sender's ids come with the flag."""
    packets = keeping(handle, flags=nfq.NFQA_CFG_F_UID_GID)
    network.send(b"data")
    handle.process()
    assert [(packet.uid, packet.gid) for packet in packets] == [sender()]


@pytest.mark.parametrize(
    ("mode", "copy_range", "length", "original_length"),
    [
        (nfq.NFQNL_COPY_META, 0xFFFF, 0, 0),
        (nfq.NFQNL_COPY_PACKET, 0, 128, 128),
        (nfq.NFQNL_COPY_PACKET, 1, 1, 128),
        (nfq.NFQNL_COPY_PACKET, 127, 127, 128),
        (nfq.NFQNL_COPY_PACKET, 128, 128, 128),
        (nfq.NFQNL_COPY_PACKET, 0xFFFFFFFF, 128, 128),
    ],
)
def test_range(
    network: Network, mode: int, copy_range: int, length: int, original_length: int
) -> None:
    """Copy mode and range determine how much of a packet comes; the packet passes whole."""
    handle = network.open()
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=mode, range=copy_range)
    network.send(bytes(100))
    handle.process()
    (packet,) = packets
    assert (len(packet.payload), packet.original_length) == (length, original_length)
    assert packet.truncated == (0 < length < original_length)
    packet.accept()
    assert network.outcomes() == passed(bytes(100))


def test_largest_packet(network: Network, handle: Handle) -> None:
    """A packet of more than 65531 bytes is cut, whatever the range."""
    packets = keeping(handle)
    network.send(bytes(65507))
    handle.process()
    (packet,) = packets
    assert (len(packet.payload), packet.original_length, packet.truncated) == (65531, 65535, True)


# Configuration


def test_no_mode(network: Network, handle: Handle) -> None:
    """A queue without a copy mode drops its packets, whatever the rule's bypass."""
    network.rule(bypass=True)
    packets: list[Packet] = []
    queue = handle.create_queue(1, packets.append, mode=None)
    network.send(b"1")
    queue.set_mode(COPY, 0xFFFF)
    network.send(b"2")
    queue.set_mode(nfq.NFQNL_COPY_NONE, 0xFFFF)
    network.send(b"3")
    assert handle.process() == 1
    packets[0].accept()
    assert network.outcomes() == [DROPPED, *passed(b"2"), DROPPED]


@pytest.mark.parametrize("bypass", [False, True])
def test_nobody_listens(network: Network, bypass: bool) -> None:
    """Without a program the rule's bypass lets packets pass."""
    network.rule(bypass=bypass)
    network.send(b"data")
    assert network.outcomes() == (passed(b"data") if bypass else [DROPPED])


def test_number_of_another_handle(network: Network, handle: Handle) -> None:
    """A number that another handle has bound can't be bound, nor twice by one descriptor."""
    queue = handle.create_queue(1, accept)
    other = network.open()
    with pytest.raises(PermissionError, match="bound by another handle"):
        other.create_queue(1, accept)
    with (
        nfq.open(fd=handle) as copy,
        pytest.raises(OSError, match="bound on this descriptor") as busy,
    ):
        copy.create_queue(1, accept)
    assert busy.value.errno == errno.EBUSY
    queue.destroy()
    other.create_queue(1, accept)


@pytest.mark.parametrize("flags", [1 << 5, 1 << 31 | nfq.NFQA_CFG_F_GSO])
def test_unknown_flags(network: Network, handle: Handle, flags: int) -> None:
    """Unknown flags are refused, and nothing stays bound; with none, others stay."""
    with pytest.raises(OSError, match="flag") as refused:
        handle.create_queue(1, accept, mode=COPY, flags=flags)
    assert refused.value.errno in UNKNOWN_FLAG
    queue = network.open().create_queue(1, accept, mode=COPY)
    with pytest.raises(OSError, match="flag") as refused:
        queue.set_flags(flags, flags)
    assert refused.value.errno in UNKNOWN_FLAG
    queue.set_flags(1 << 5, 0)  # the mask may be anything


def test_protocol_families(handle: Handle) -> None:
    """Binding and unbinding protocol families does nothing, for any family."""
    for family in (2, 10, 7, 250):
        handle.bind_pf(family)
        handle.unbind_pf(family)


def test_unprivileged(network: Network, handle: Handle) -> None:
    """Without CAP_NET_ADMIN nothing is bound, and verdicts are refused; the packets wait on.

    The kernel tells of the first verdict of a datagram, and not of the others.
    """
    told = listen(handle)
    packets = keeping(handle)
    network.send(b"1", b"2")
    assert handle.process() == 2
    verdicts = verdict_message(1) + verdict_message(2)
    with network.unprivileged():
        with pytest.raises(PermissionError, match="CAP_NET_ADMIN"):
            handle.create_queue(2, accept)
        send(handle, verdicts)
        packets[0].drop()
        process_until(handle, lambda: len(told) == 2)
    assert told == [(1, 1, errno.EPERM)] * 2
    send(handle, verdicts)
    assert network.outcomes() == passed(b"1", b"2")


def test_ids_of_a_new_binding(network: Network, handle: Handle) -> None:
    """Ids count from 1 in each binding."""
    for _ in range(2):
        packets = keeping(handle)
        network.send(b"1", b"2")
        handle.process()
        assert ids(packets) == [1, 2]
        packets[0].queue.destroy()


@pytest.mark.parametrize("verdict", [nfq.NF_ACCEPT, nfq.NF_DROP])
def test_end_of_a_queue(network: Network, handle: Handle, verdict: int) -> None:
    """Packets that wait when their queue is destroyed get its default verdict."""
    packets: list[Packet] = []
    queue = handle.create_queue(1, packets.append, mode=COPY, default_verdict=verdict)
    network.send(b"1", b"2")
    handle.process(max_packets=1)
    queue.destroy()
    expected = passed(b"1", b"2") if verdict == nfq.NF_ACCEPT else [DROPPED] * 2
    assert network.outcomes() == expected


# Full queue, full buffer


@pytest.mark.parametrize("maxlen", [0, 3])
@pytest.mark.parametrize("fail_open", [False, True])
def test_maxlen(network: Network, handle: Handle, maxlen: int, fail_open: bool) -> None:
    """No more than maxlen wait; what is dropped for that, or passes, has taken no id."""
    flags = nfq.NFQA_CFG_F_FAIL_OPEN if fail_open else 0
    packets = keeping(handle, maxlen=maxlen, flags=flags)
    network.send(*[b"data"] * 5)
    assert handle.process() == maxlen
    for packet in packets:
        packet.accept()
    packets.clear()
    network.send(b"later")
    handle.process()
    assert ids(packets) == ([maxlen + 1] if maxlen else [])
    surplus = passed(b"data") if fail_open else [DROPPED]
    assert network.outcomes()[:5] == passed(*[b"data"] * maxlen) + surplus * (5 - maxlen)


def test_other_settings(network: Network, handle: Handle) -> None:
    """maxlen and flags can be changed, each for itself; flags outside the mask stay."""
    packets: list[Packet] = []
    flag = nfq.NFQA_CFG_F_FAIL_OPEN
    queue = handle.create_queue(1, packets.append, mode=COPY, maxlen=1, flags=flag)
    network.send(b"1", b"2")
    queue.set_flags(nfq.NFQA_CFG_F_GSO, 0)
    network.send(b"3")
    queue.set_flags(flag | nfq.NFQA_CFG_F_GSO, nfq.NFQA_CFG_F_GSO)
    network.send(b"4")
    queue.set_maxlen(2)
    network.send(b"5", b"6")
    assert handle.process() == 2
    for packet in packets:
        packet.accept()
    assert network.outcomes() == [
        *passed(b"1", b"2", b"3"),
        DROPPED,
        *passed(b"5"),
        DROPPED,
    ]


@pytest.mark.parametrize("fail_open", [False, True])
def test_receive_buffer(network: Network, handle: Handle, fail_open: bool) -> None:
    """What a full buffer has no room for is lost, or passes, and has taken an id.

    Nothing comes until the program has read all that was there.
    """
    flags = nfq.NFQA_CFG_F_FAIL_OPEN if fail_open else 0
    packets = keeping(handle, flags=flags)
    handle.rcvbuf = 8192
    network.send(*[bytes(1000)] * 30)
    handle.process(max_packets=1)
    network.send(b"still full")
    while handle.process():
        pass
    network.send(b"room")
    while handle.process():
        pass
    kept = len(packets) - 1
    assert 2 <= kept <= 20
    assert ids(packets) == [*range(1, kept + 1), 32]
    assert bool(handle.stats().overruns) == network.overruns
    for packet in packets:
        packet.accept()
    lost = DROPPED if not fail_open else Outcome(True, bytes(1000))
    assert network.outcomes() == [
        *passed(*[bytes(1000)] * kept),
        *[lost] * (30 - kept),
        lost._replace(data=b"still full") if fail_open else DROPPED,
        *passed(b"room"),
    ]


@pytest.mark.parametrize(
    ("size", "room"),
    [(100, 390), (600, 217), (1472, 217), (1600, 114), (4000, 59), (8000, 30), (30_000, 16)],
)
def test_room(network: Network, handle: Handle, size: int, room: int) -> None:
    """A receive buffer has room for as many packets."""
    packets = keeping(handle)
    handle.rcvbuf = 250_000
    network.send(*[bytes(size)] * (room + 40))
    while handle.process():
        pass
    assert 0.9 * room <= len(packets) <= 1.1 * room + 1


# Verdicts

GIVEN: dict[str, tuple[Callable[[Packet], None], list[Outcome]]] = {
    "accept": (nfq.NetfilterQueueData.accept, passed(b"data", mark=5)),
    "mark": (lambda packet: packet.accept(mark=7), passed(b"data", mark=7)),
    "no mark": (lambda packet: packet.accept(mark=0), passed(b"data")),
    "drop": (nfq.NetfilterQueueData.drop, [DROPPED]),
    "stop": (lambda packet: packet.set_verdict(nfq.NF_STOP), passed(b"data", mark=5)),
    "stolen": (lambda packet: packet.set_verdict(nfq.NF_STOLEN), [DROPPED]),
    "none": (lambda packet: None, [DROPPED]),
    "shorter": (
        lambda packet: packet.accept(payload=udp_packet(0, b"d")),
        passed(b"d", mark=5),
    ),
    "longer": (
        lambda packet: packet.accept(payload=udp_packet(0, bytes(5000)), mark=1),
        passed(bytes(5000), mark=1),
    ),
    "dropped payload": (
        lambda packet: packet.set_verdict(nfq.NF_DROP, payload=udp_packet(0, b"d")),
        [DROPPED],
    ),
}


@pytest.mark.parametrize("name", GIVEN)
def test_verdict(network: Network, handle: Handle, name: str) -> None:
    """Each verdict does the same to a packet."""
    give, expected = GIVEN[name]
    handle.create_queue(1, give, mode=COPY)
    network.send(b"data", mark=5)
    assert handle.process() == 1
    assert network.outcomes() == expected


@pytest.mark.parametrize("mark", [None, 9])
def test_batch_verdict(network: Network, handle: Handle, mark: int | None) -> None:
    """A batch verdict releases all that wait up to its id, those between verdicts too."""
    packets = keeping(handle)
    network.send(*[b"data"] * 5)
    handle.process()
    packets[1].drop()
    packets[0].queue.set_verdict_batch(nfq.NF_ACCEPT, 3, mark=mark)
    released = passed(b"data", mark=mark or 0)
    assert network.outcomes() == [*released, DROPPED, *released, DROPPED, DROPPED]


def test_batch_verdict_up_to_an_id_ahead(network: Network, handle: Handle) -> None:
    """Half of all ids are ahead of a packet's own, and half behind: a batch verdict's id, too."""
    told = listen(handle)
    keeping(handle)
    network.send(b"data")
    handle.process()
    for up_to in (0, 0xFFFFFFFF, 0x80000002):
        send(handle, verdict_message(up_to, batch=True))
        assert readable(handle)
        handle.process()
        assert told.pop() == (1, up_to, errno.ENOENT)
    send(handle, verdict_message(0x80000000, batch=True))
    assert network.outcomes() == passed(b"data")


def test_no_such_packet(network: Network, handle: Handle) -> None:
    """Verdicts on ids that don't wait are refused one by one, and stop no others."""
    told = listen(handle)
    packets = keeping(handle)
    network.send(b"1", b"2")
    handle.process()
    send(handle, verdict_message(99) + verdict_message(1) + verdict_message(1))
    process_until(handle, lambda: len(told) == 2)
    assert told == [(1, 99, errno.ENOENT), (1, 1, errno.ENOENT)]
    packets[1].accept()
    assert network.outcomes() == passed(b"1", b"2")


def test_flushed_packets(network: Network, handle: Handle) -> None:
    """Packets that the kernel has dropped meanwhile can't be accepted, neither one nor a batch."""
    told = listen(handle)
    packets = keeping(handle)
    network.send(b"1", b"2", b"3")
    handle.process()
    network.flush()
    packets[1].accept()
    packets[0].queue.set_verdict_batch(nfq.NF_ACCEPT, 3)
    process_until(handle, lambda: len(told) == 2)
    assert told == [(1, 2, errno.ENOENT), (1, 3, errno.ENOENT)]
    assert network.outcomes() == [DROPPED] * 3


@pytest.mark.parametrize("batch", [False, True])
def test_verdict_of_another_handle(network: Network, handle: Handle, batch: bool) -> None:
    """Queues of others and queues that nobody has bound refuse verdicts."""
    packets = keeping(handle)
    other = network.open()
    told = listen(other)
    network.send(b"data")
    handle.process()
    send(other, verdict_message(1, batch=batch) + verdict_message(1, number=2, batch=batch))
    process_until(other, lambda: len(told) == 2)
    assert told == [(1, 1, errno.EPERM), (2, 1, errno.ENODEV)]
    packets[0].accept()
    assert network.outcomes() == passed(b"data")


@pytest.mark.parametrize("verdict", [nfq.NF_STOLEN, nfq.NF_STOP + 1, 0xFF])
def test_no_verdict(network: Network, handle: Handle, verdict: int) -> None:
    """Verdicts that user space can't give are refused; the packet waits on."""
    told = listen(handle)
    packets = keeping(handle)
    network.send(b"data")
    handle.process()
    wrong = verdict_message(1).replace(
        struct.pack("!II", nfq.NF_ACCEPT, 1), struct.pack("!II", verdict, 1)
    )
    send(handle, wrong)
    assert readable(handle)
    handle.process()
    assert told == [(1, 1, errno.EINVAL)]
    packets[0].accept()
    assert network.outcomes() == passed(b"data")


# Other queues, and the rule again


def test_requeue(network: Network, handle: Handle) -> None:
    """A requeued packet gets the other queue's next id, and keeps its new mark."""
    others = keeping(network.open(), 2)
    network.rule(2)
    network.send(b"0")
    network.rule(1)
    handle.create_queue(1, lambda packet: packet.set_verdict(nfq.NF_QUEUE_NR(2), 6), mode=COPY)
    network.send(b"1")
    assert handle.process() == 1
    while len(others) < 2:
        network.handles[1].process(timeout=TIMEOUT)
    assert [(packet.id, packet.mark) for packet in others] == [(1, 0), (2, 6)]
    for packet in others:
        packet.accept()
    assert network.outcomes() == [*passed(b"0"), *passed(b"1", mark=6)]


REQUEUED = {"nobody": DROPPED, "nobody, bypass": Outcome(True, b"data"), "no mode": DROPPED}


@pytest.mark.parametrize("case", REQUEUED)
def test_requeue_in_vain(network: Network, handle: Handle, case: str) -> None:
    """Where nobody listens a requeued packet is dropped, or passes by bypass if none is bound."""
    if case == "no mode":
        handle.create_queue(2, accept)
    handle.create_queue(1, lambda packet: packet.requeue(2, bypass=case != "nobody"), mode=COPY)
    network.send(b"data")
    assert handle.process() == 1
    assert network.outcomes() == [REQUEUED[case]]


def test_repeat(network: Network, handle: Handle) -> None:
    """NF_REPEAT brings a packet back to its rule, which may be about its old mark."""
    seen: list[tuple[int, int]] = []

    def callback(packet: Packet) -> None:
        seen.append((packet.id, packet.mark))
        packet.repeat(mark=packet.mark + 1)

    handle.create_queue(1, callback, mode=COPY)
    network.rule(match_mark=0)
    network.send(b"0")
    handle.process()
    assert seen == [(1, 0)]
    network.send(b"1", mark=5)
    assert seen == [(1, 0)]
    assert network.outcomes() == [*passed(b"0", mark=1), *passed(b"1", mark=5)]


def test_repeat_for_ever(network: Network, handle: Handle) -> None:
    """A rule that matches all packets gets a repeated one back under the next id each time."""
    packets = keeping(handle)
    network.send(b"data")
    for packet_id in range(1, 6):
        assert handle.process(timeout=TIMEOUT) == 1
        assert ids(packets) == [packet_id]
        packets.pop().repeat()
    handle.process(timeout=TIMEOUT)
    packets[0].accept()
    assert network.outcomes() == passed(b"data")


def test_batch_repeat(network: Network, handle: Handle) -> None:
    """A batch verdict takes all its packets off the queue before the first comes back."""
    packets = keeping(handle, maxlen=3)
    network.send(b"1", b"2", b"3")
    handle.process()
    packets[0].queue.set_verdict_batch(nfq.NF_REPEAT, 3)
    packets.clear()
    while len(packets) < 3:
        handle.process(timeout=TIMEOUT)
    assert ids(packets) == [4, 5, 6]


def test_threads(network: Network, handle: Handle) -> None:
    """Packets of several queues, and their verdicts, keep apart."""
    queues: list[Queue] = []
    other = network.open()
    for number, owner in ((1, handle), (2, other), (3, handle)):
        give = accept if number != 2 else nfq.NetfilterQueueData.drop
        queues.append(owner.create_queue(number, give, mode=COPY))
    for number in (1, 2, 3, 2, 1):
        network.rule(number)
        network.send(b"%d" % number)
    assert (handle.process(), other.process()) == (3, 2)
    expected = [*passed(b"1"), DROPPED, *passed(b"3"), DROPPED, *passed(b"1")]
    assert network.outcomes() == expected
