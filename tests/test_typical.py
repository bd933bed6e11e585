# SPDX-License-Identifier: GPL-2.0-or-later
# pyright: strict
"""What typical programs write: mypy and pyright infer the types that are asserted, and it runs."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import assert_type

import pytest
import trio

import libnetfilterqueue as nfq
import libnetfilterqueue.trio
from libnetfilterqueue import aio
from libnetfilterqueue.compat.netfilterqueue import NetfilterQueue, Packet
from libnetfilterqueue.testing import FakeKernel, KernelPacket


class Filter:
    """A callback with a state, which keeps the packets that it can't decide yet."""

    def __init__(self) -> None:
        self.kept: list[nfq.NetfilterQueueData] = []
        self.refused: list[tuple[int | None, int, OSError]] = []

    def __call__(self, packet: nfq.NetfilterQueueData) -> None:
        if b"later" in packet.get_payload():
            self.kept.append(packet)
        elif packet.mark == 7:
            packet.drop()
        else:
            packet.accept(mark=packet.mark | 0x100)

    def refuse(self, number: int | None, packet_id: int, error: OSError) -> None:
        """To be set as on_verdict_error."""
        self.refused.append((number, packet_id, error))


def test_callback(nfqueue: FakeKernel) -> None:
    """A callback is any callable that takes a packet; one that is kept has its verdict later."""
    decide = Filter()
    with nfq.open() as handle:
        assert_type(handle, nfq.NetfilterQueueHandle)
        handle.on_verdict_error = decide.refuse
        queue = handle.create_queue(1, decide, mode=nfq.NFQNL_COPY_PACKET, maxlen=512)
        assert_type(queue, nfq.NetfilterQueueQueueHandle)
        good = nfqueue.enqueue(b"good")
        assert_type(good, KernelPacket)
        bad, later = nfqueue.enqueue(b"bad", mark=7), nfqueue.enqueue(b"later")
        assert_type(handle.process(timeout=0.5), int)
        assert_type(good.passed, bool | None)
        assert (good.passed, good.mark, bad.passed, later.passed) == (True, 0x100, False, None)
        for packet in decide.kept:
            packet.set_verdict(nfq.NF_ACCEPT, payload=packet.payload[::-1].tobytes())
        assert later.payload == b"retal"
        assert_type(handle.stats(), nfq.HandleStats)
        assert handle.stats().verdicts == 3
    assert decide.refused == []


def test_attributes(nfqueue: FakeKernel) -> None:
    """An attribute that may be unknown is None, and has to be checked."""
    packets: list[nfq.NetfilterQueueData] = []
    with nfq.open() as handle:
        handle.create_queue(
            1, packets.append, mode=nfq.NFQNL_COPY_PACKET, flags=nfq.NFQA_CFG_F_CONNTRACK
        )
        nfqueue.enqueue(b"data", hook=nfq.NF_INET_FORWARD, conntrack={"mark": 5}, indev=1)
        handle.process()
        (packet,) = packets
        assert_type(packet.id, int)
        assert_type(packet.queue.handle, nfq.NetfilterQueueHandle)
        assert_type(packet.hook, nfq.Hook)
        assert_type(packet.payload, memoryview)
        assert_type(packet.hw_addr, bytes)
        assert_type(packet.timestamp, float | None)
        assert_type(packet.get_timestamp(), tuple[int, int] | None)
        assert_type(packet.uid, int | None)
        assert_type(packet.indev_name(), str | None)
        assert_type(packet.skb_info, nfq.SkbInfo)
        assert_type(packet.vlan, nfq.Vlan | None)
        assert_type(packet.verdict, nfq.Verdict | int | None)
        match packet.conntrack:
            case nfq.Conntrack(mark=int(mark)):
                assert_type(mark, int)
                assert mark == 5
            case other:
                pytest.fail(f"a connection without a mark: {other}")
        seen = "unknown" if packet.timestamp is None else f"{packet.timestamp:.3f}"
        assert seen == "unknown"
        assert packet.hook.name == "NF_INET_FORWARD"
        packet.drop()


def test_constants() -> None:
    """Constants are members of enums, and ints."""
    assert_type(nfq.Verdict.NF_ACCEPT.value, int)
    flags = nfq.NFQA_CFG_F_GSO | nfq.NFQA_CFG_F_UID_GID
    assert_type(flags, nfq.QueueFlag)
    verdict: int = nfq.NF_QUEUE_NR(5, bypass=True)
    names: dict[int, str] = {nfq.NF_DROP: "drop", nfq.NF_ACCEPT: "accept"}
    assert names[nfq.Verdict(1)] == "accept"
    assert verdict >> 16 == 5


@pytest.mark.nfqueue(allow_undecided=True)
def test_batch(nfqueue: FakeKernel) -> None:
    """set_verdict_batch gives one verdict to all packets that wait."""
    packets: list[nfq.NetfilterQueueData] = []
    with nfq.open() as handle:
        with handle.create_queue(1, packets.append, default_verdict=nfq.NF_ACCEPT) as queue:
            queue.set_mode(nfq.NFQNL_COPY_META, 0)
            sent = nfqueue.enqueue_all([b"1", b"2", b"3"])
            assert_type(sent, list[KernelPacket])
            handle.process()
            queue.set_verdict_batch(nfq.NF_DROP, packets[1].id, mark=9)
            assert_type(queue.default_verdict, nfq.Verdict | int)
        assert [packet.passed for packet in sent] == [False, False, True]


def test_own_loop(nfqueue: FakeKernel) -> None:
    """A handle can be given to select, and any buffer may be handed in."""
    seen: list[int] = []

    def callback(packet: nfq.NetfilterQueueData) -> None:
        seen.append(packet.original_length)
        packet.accept()

    with nfq.open() as handle:
        handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
        nfqueue.enqueue_all([b"1", b"22", b"333"])
        with socket.socket(fileno=socket.dup(handle.fd())) as sock:
            while len(seen) < 3:
                readable, _, _ = select.select([handle], [], [], 5)
                assert readable == [handle]
                buffer = bytearray(66000)
                size = sock.recv_into(buffer)
                assert_type(handle.handle_packet(memoryview(buffer)[:size]), int)
    assert seen == [1, 2, 3]


def test_errors(nfqueue: FakeKernel) -> None:
    """Each error is one of Python's own too."""
    with nfq.open() as handle, nfq.open() as other:
        handle.create_queue(1, nfq.NetfilterQueueData.accept)
        try:
            other.create_queue(1, nfq.NetfilterQueueData.accept)
        except OSError as error:
            assert_type(error.errno, int | None)
        with pytest.raises(nfq.MalformedMessageError):
            handle.handle_packet(b"no message")
        refused: list[type[Exception]] = [nfq.MalformedMessageError, nfq.VerdictError]
        assert [error.__base__ for error in refused] == [ValueError, RuntimeError]


def test_checksums() -> None:
    """A payload is corrected in place."""
    packet = bytearray(bytes.fromhex("450000140000000040fd00007f0000017f000001"))
    nfq.update_checksums(packet)
    assert packet[10:12] == bytes.fromhex("7beb")


async def marks(stream: aio.PacketStream) -> AsyncIterator[int]:
    """The marks of a stream's packets, which are accepted."""
    async for packet in stream:
        assert_type(packet, nfq.NetfilterQueueData)
        mark = packet.mark
        packet.accept()
        yield mark


@pytest.mark.nfqueue(allow_undecided=True)
async def test_stream(nfqueue: FakeKernel) -> None:
    """A stream is iterated, or asked for packets."""
    async with aio.open_queue(1, rcvbuf=1 << 20) as stream:
        assert_type(stream, aio.PacketStream)
        nfqueue.enqueue_all([b"1", b"2", b"3"])
        assert_type(await stream.get(), nfq.NetfilterQueueData)
        batch = await stream.get_batch(max=1)
        assert_type(batch, list[nfq.NetfilterQueueData])
        assert len(batch) == 1
        last = nfqueue.enqueue(b"4", mark=4)
        assert [await anext(marks(stream)) for _ in range(2)] == [0, 4]
        assert_type(await last, KernelPacket)
        assert last.passed


async def test_serve(nfqueue: FakeKernel) -> None:
    """A handler is a coroutine function that takes a packet."""

    async def handler(packet: nfq.NetfilterQueueData) -> None:
        await asyncio.sleep(0)
        packet.accept(payload=b"answer")

    async with aio.open_queue(1) as stream:
        serving = asyncio.create_task(aio.serve(stream, handler, concurrency=10))
        packet = await nfqueue.enqueue(b"question")
        assert packet.payload == b"answer"
        stream.close()
        assert_type(await serving, None)


async def test_attach(nfqueue: FakeKernel) -> None:
    """A loop feeds a handle whose callbacks are plain functions."""
    with nfq.open() as handle:
        handle.create_queue(1, nfq.NetfilterQueueData.accept, mode=nfq.NFQNL_COPY_META)
        async with aio.attach(handle) as attachment:
            assert_type(attachment, aio.Attachment)
            assert (await nfqueue.enqueue(b"data")).passed


@pytest.mark.gevent
def test_green(nfqueue: FakeKernel) -> None:
    """gevent's adapter has the same names, in plain functions."""
    import gevent  # noqa: PLC0415 (not every Python has it)

    from libnetfilterqueue import green  # noqa: PLC0415

    passed: list[bool | None] = []

    def handler(packet: nfq.NetfilterQueueData) -> None:
        gevent.sleep(0)
        packet.accept()

    def feed() -> None:
        passed.append(nfqueue.enqueue(b"data").wait().passed)
        stream.close()

    with green.open_queue(1) as stream:
        assert_type(stream, green.PacketStream)
        waiting = nfqueue.enqueue(b"data")
        for packet in stream:
            assert_type(packet, nfq.NetfilterQueueData)
            packet.drop()
            break
        assert waiting.wait().passed is False
        gevent.spawn(feed)
        green.serve(stream, handler)
    assert passed == [True]


def test_compat(nfqueue: FakeKernel) -> None:
    """A program for NetfilterQueue has types, too."""

    def callback(packet: Packet) -> None:
        assert_type(packet.id, int)
        assert_type(packet.get_hw(), bytes | None)
        packet.set_payload(packet.get_payload().upper())
        packet.accept()

    queue = NetfilterQueue()
    assert_type(queue, NetfilterQueue)
    queue.bind(1, callback, sock_len=100_000)
    packet = nfqueue.enqueue(b"data")
    queue.run(block=False)
    queue.unbind()
    assert packet.payload == b"DATA"


def test_without_a_loop(nfqueue: FakeKernel) -> None:
    """A program without a loop iterates over a queue, or asks for packets."""
    with nfq.open_queue(1, maxlen=100) as packets:
        assert_type(packets, nfq.PacketStream)
        sent = nfqueue.enqueue_all([b"1", b"2", b"3", b"4"])
        for packet in packets:
            assert_type(packet, nfq.NetfilterQueueData)
            packet.accept()
            break
        packets.get(timeout=0.5).drop()
        assert_type(packets.get_batch(1, timeout=0.5), list[nfq.NetfilterQueueData])
        packets.get_nowait().accept()
        packets.stop()
        assert list(packets) == []
    assert [packet.wait().passed for packet in sent] == [True, False, False, True]


def test_trio(nfqueue: FakeKernel) -> None:
    """trio's adapter has the same names, by trio's conventions."""

    async def handler(packet: nfq.NetfilterQueueData) -> None:
        await trio.lowlevel.checkpoint()
        packet.accept(payload=b"answer")
        streams[0].stop()

    async def main() -> None:
        async with libnetfilterqueue.trio.open_queue(1) as stream:
            streams.append(stream)
            assert_type(stream, libnetfilterqueue.trio.PacketStream)
            sent.extend(nfqueue.enqueue_all([b"1", b"2"]))
            async for packet in stream:
                assert_type(packet, nfq.NetfilterQueueData)
                packet.drop()
                break
            assert_type(await libnetfilterqueue.trio.serve(stream, handler), None)
        with nfq.open() as handle:
            async with trio.open_nursery() as nursery:
                with libnetfilterqueue.trio.attach(handle, nursery) as attachment:
                    assert_type(attachment, libnetfilterqueue.trio.Attachment)

    streams: list[libnetfilterqueue.trio.PacketStream] = []
    sent: list[KernelPacket] = []
    trio.run(main)
    assert [packet.wait().passed for packet in sent] == [False, True]
    assert sent[1].payload == b"answer"


def open_netns(path: str | None) -> AbstractContextManager[nfq.NetfilterQueueHandle]:
    """A handle is a context manager that yields itself."""
    return nfq.open(netns=path)


def test_wrong_types() -> None:
    """Type checkers refuse what the calls refuse: the comments would be errors if they did not."""
    not_callable: Callable[[], None] = test_constants
    with open_netns(None) as handle:
        with pytest.raises(TypeError):
            handle.create_queue(1, not_callable, 3)  # type: ignore[arg-type, call-arg]
        with pytest.raises(TypeError):
            nfq.open(3)  # type: ignore[call-arg]
