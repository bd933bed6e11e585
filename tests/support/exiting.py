# SPDX-License-Identifier: GPL-2.0-or-later
"""A program whose children end, in one of many ways, while packets wait for their verdicts.

    exiting.py WAY ROUNDS

A child has a handle of its own, or inherits its parent's. The program fails if a child doesn't end
as it should, leaves a queue bound, harms its parent's, or if a packet doesn't fare as it should.
"""

import atexit
import contextlib
import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from netns import TIMEOUT, UdpPair, queue_rule
from queues import Handle, Packet, Queue, accept, process_until

import libnetfilterqueue as nfq

SENT = [b"1", b"2", b"3", b"4", b"5", b"6"]
UNREAD = 1  # of these
KEPT: list[object] = []  # what modules hold goes when the interpreter shuts down
STATUS = 3  # of a child that says so


def create_queue(
    handle: Handle, callback: Callable[[Packet], None], default: nfq.Verdict = nfq.NF_DROP
) -> Queue:
    return handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET, default_verdict=default)


def keep(udp: UdpPair, default: nfq.Verdict = nfq.NF_DROP) -> list[Packet]:
    """Packets that are kept; another one waits to be read."""
    packets: list[Packet] = []
    handle = nfq.open()
    create_queue(handle, packets.append, default)
    udp.send(*SENT[:-UNREAD])
    process_until(handle, lambda: len(packets) == len(SENT) - UNREAD)
    udp.send(*SENT[-UNREAD:])
    return packets


def handle_of(packets: list[Packet]) -> Handle:
    return packets[0].queue.handle


def in_daemons(count: int, function: Callable[[], object]) -> None:
    """Calls the function in daemon threads, which have begun when this returns."""
    begun = threading.Barrier(count + 1)

    def body() -> None:
        begun.wait(TIMEOUT)
        with contextlib.suppress(ValueError):  # closed
            function()

    for _ in range(count):
        threading.Thread(target=body, daemon=True).start()
    begun.wait(TIMEOUT)


def join_daemons() -> None:
    """Waits until they have ended. One that ends during a fork may have a lock of ASan's allocator,
    for which the child would wait for ever."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(TIMEOUT)


# Children that end at once, so that only the kernel sees to what waits


def exit_at_once(udp: UdpPair) -> None:
    KEPT.append(keep(udp, nfq.NF_ACCEPT))
    os._exit(STATUS)


def exit_in_a_callback(udp: UdpPair) -> None:
    handle = nfq.open()
    create_queue(handle, lambda _: os._exit(STATUS), nfq.NF_ACCEPT)
    udp.send(*SENT)
    handle.process(timeout=None)


def killed(udp: UdpPair) -> None:
    KEPT.append(keep(udp, nfq.NF_ACCEPT))
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_process(udp: UdpPair) -> None:
    handle = handle_of(keep(udp, nfq.NF_ACCEPT))
    handle.process()
    in_daemons(1, lambda: os.kill(os.getpid(), signal.SIGKILL))
    handle.process(timeout=None)


# Children whose interpreter shuts down


def scatter(*things: object) -> None:
    """Has a module, sys, a thread's locals and a cycle hold one each, which so go one by one."""
    gc.disable()
    local = threading.local()
    KEPT.append(things[0])
    sys.last_value = things[1]  # type: ignore[assignment]
    local.thing = things[2]
    KEPT.append(local)
    cycle: list[object] = [things[3]]
    cycle.append(cycle)


def returns(udp: UdpPair) -> None:
    packets = keep(udp)
    scatter(*packets)
    handle_of(packets).autoflush = False
    packets[4].drop()


def exits_in_a_callback(udp: UdpPair) -> None:
    handle = nfq.open()

    def callback(packet: Packet) -> None:
        KEPT.append(packet)
        if packet.id == len(SENT):
            sys.exit(STATUS)

    create_queue(handle, callback)
    udp.send(*SENT)
    handle.process()


def at_exit(udp: UdpPair) -> None:
    packets = keep(udp, nfq.NF_ACCEPT)
    atexit.register(handle_of(packets).close)
    atexit.register(handle_of(packets).process)
    atexit.register(packets[0].accept)
    scatter(*packets)


class Finalizer:
    """Uses packets when it is finalized, and no globals, which may be gone."""

    def __init__(self, packets: list[Packet]) -> None:
        self._packets, self._handle = packets, handle_of(packets)

    def __del__(self) -> None:
        try:
            self._packets.pop().drop()
            self._handle.process()
            self._handle.close()
        except ValueError:
            assert self._handle.closed  # another one was faster


def finalizers(udp: UdpPair) -> None:
    packets = keep(udp)
    scatter(*(Finalizer(packets) for _ in range(4)))


def daemons_wait(udp: UdpPair) -> None:
    packets = keep(udp)
    scatter(*packets)
    in_daemons(3, lambda: handle_of(packets).process(timeout=None))


def daemons_wait_until_it_is_closed(udp: UdpPair) -> None:
    packets = keep(udp)
    atexit.register(handle_of(packets).close)
    in_daemons(3, lambda: handle_of(packets).process(timeout=None))


def daemons_are_busy(udp: UdpPair) -> None:
    """They dispatch endlessly, configure, give verdicts, open and close."""
    handle = nfq.open()
    kept: list[Packet] = []
    KEPT.append(kept)

    def callback(packet: Packet) -> None:
        kept.append(packet)
        udp.send(b"more")

    def process() -> None:
        while True:
            handle.process(timeout=None)

    def use() -> None:
        while True:
            queue.set_maxlen(100)
            with contextlib.suppress(IndexError):
                kept.pop().drop()
            with nfq.open() as other:
                other.process()

    queue = create_queue(handle, callback)
    udp.send(*SENT)
    process_until(handle, lambda: handle.stats().packets >= len(SENT))
    sys.setswitchinterval(1e-6)
    in_daemons(2, process)
    in_daemons(2, use)
    process_until(handle, lambda: handle.stats().packets > 20)


# Children that inherit what their parent keeps


def inherited() -> list[Packet]:
    packets = KEPT[-1]
    assert isinstance(packets, list)
    return packets


def child_closes(udp: UdpPair) -> None:
    with nfq.open() as own:
        own.create_queue(2, accept)
        handle_of(inherited()).close()
        own.process()


def child_drops(udp: UdpPair) -> None:
    KEPT.clear()
    gc.collect()


def child_returns(udp: UdpPair) -> None:
    """Its verdicts are refused; it has all until its interpreter shuts down."""
    for packet in inherited():
        with contextlib.suppress(RuntimeError):
            packet.drop()
            os._exit(STATUS)


def child_exits(udp: UdpPair) -> None:
    sys.exit(STATUS)


def child_exits_at_once(udp: UdpPair) -> None:
    os._exit(STATUS)


def child_is_killed(udp: UdpPair) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# The program


def fork(way: "Way", udp: UdpPair) -> int:
    """Like os.fork(), with a child that goes its way."""
    child = os.fork()
    if child == 0:
        way.child(udp)
    return child


def wait(child: int) -> int:
    """Returns the child's exit code. It is killed if it hangs, be it within fork itself."""
    ends = os.pidfd_open(child)
    if not select.select([ends], [], [], TIMEOUT)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(ends)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_keeping(way: "Way", udp: UdpPair) -> int:
    """The child inherits kept packets."""
    KEPT.append(keep(udp))
    return fork(way, udp)


def fork_in_a_callback(way: "Way", udp: UdpPair) -> int:
    """The child does so, and goes its way, in a callback."""
    packets: list[Packet] = []
    children: list[int] = []

    def callback(packet: Packet) -> None:
        packets.append(packet)
        if packet.id == len(SENT) // 2:
            children.append(fork(way, udp))

    KEPT.append(packets)
    handle = nfq.open()
    create_queue(handle, callback)
    udp.send(*SENT)
    try:
        handle.process()
    except RuntimeError:
        assert children == [0]
    return children[0]


def fork_beside_threads(way: "Way", udp: UdpPair) -> int:
    """The child inherits a handle that other threads were using."""
    packets = keep(udp)
    KEPT.append(packets)
    queue = packets[0].queue

    def use() -> None:
        while True:
            queue.set_maxlen(100)
            handle_of(packets).stats()

    in_daemons(2, use)
    return fork(way, udp)


class Way(NamedTuple):
    """Where a child comes from, what it does, and what comes of it."""

    parent: Callable[["Way", UdpPair], int]
    child: Callable[[UdpPair], None]
    status: int = 0
    arrives: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        return f"{self.parent.__name__}-{self.child.__name__}"


WAYS = {
    str(way): way
    for way in (
        Way(fork, exit_at_once, STATUS),
        Way(fork, exit_in_a_callback, STATUS),
        Way(fork, killed, -signal.SIGKILL),
        Way(fork, killed_in_process, -signal.SIGKILL),
        Way(fork, returns),
        Way(fork, exits_in_a_callback, STATUS),
        Way(fork, at_exit, arrives=tuple(SENT)),
        Way(fork, finalizers),
        Way(fork, daemons_wait),
        Way(fork, daemons_wait_until_it_is_closed),
        Way(fork, daemons_are_busy),
        Way(fork_keeping, child_closes),
        Way(fork_keeping, child_drops),
        Way(fork_keeping, child_returns),
        Way(fork_keeping, child_is_killed, -signal.SIGKILL),
        Way(fork_in_a_callback, child_closes),
        Way(fork_in_a_callback, child_drops),
        Way(fork_in_a_callback, child_exits, STATUS),
        Way(fork_in_a_callback, child_exits_at_once, STATUS),
        Way(fork_in_a_callback, child_is_killed, -signal.SIGKILL),
        Way(fork_beside_threads, child_closes),
        Way(fork_beside_threads, child_exits_at_once, STATUS),
    )
}


def check_own(way: Way, udp: UdpPair) -> None:
    """The child's handle went with it."""
    arrived = tuple(udp.arrivals())
    assert arrived == way.arrives, f"{arrived} arrived"
    with nfq.open() as handle:
        create_queue(handle, accept)


def check_inherited(udp: UdpPair) -> None:
    """The parent's handle is as it was."""
    packets = inherited()
    handle = handle_of(packets)
    process_until(handle, lambda: len(packets) == len(SENT))
    for packet in packets:
        packet.accept()
    assert udp.arrivals() == SENT
    handle.process()
    assert handle.stats().verdict_errors == 0
    handle.close()
    KEPT.clear()
    join_daemons()


def main(way: Way, rounds: int) -> None:
    queue_rule(1)
    udp = UdpPair()  # a child has it until its very end
    gc.freeze()  # a child's interpreter shuts down in half the time
    for _ in range(rounds):
        child = way.parent(way, udp)
        if child == 0:
            return
        status = wait(child)
        assert status == way.status, f"a child ended with status {status}"
        check_own(way, udp) if way.parent is fork else check_inherited(udp)


if __name__ == "__main__":
    main(WAYS[sys.argv[1]], int(sys.argv[2]))
