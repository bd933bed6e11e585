# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that tests see into: its end of the handles' sockets, and its thread."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, SupportsBytes, Unpack, cast, overload

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext
from libnetfilterqueue._arguments import check_type, is_coroutine_function
from libnetfilterqueue.testing import _messages as nl
from libnetfilterqueue.testing._attributes import Attributes, check_attributes, check_bits
from libnetfilterqueue.testing._captures import read_capture
from libnetfilterqueue.testing._complaints import Complaint, check_allowed, describe
from libnetfilterqueue.testing._decision import Callback, Decision, Handler, flags_for
from libnetfilterqueue.testing._original import original
from libnetfilterqueue.testing._packets import KernelPacket
from libnetfilterqueue.testing._peer import EPOLLIN, Peer
from libnetfilterqueue.testing._queues import KernelQueue, Queues, Refusal, Refused, Send
from libnetfilterqueue.testing._rules import Rule, make_rules
from libnetfilterqueue.testing._skb import Skb
from libnetfilterqueue.testing._unheard import PACKAGE, Unheard
from libnetfilterqueue.testing._waiting import TIMEOUT, Waitable, Waiters, check_timeout
from libnetfilterqueue.tuples import QueueStatus

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike, ReadableBuffer, StrOrBytesPath

NLMSG_MIN_TYPE = 16  # below are netlink's own


class Kernel:
    """A kernel with queues: ``enqueue`` stands for the rule that queues a packet.

    It is either a ``FakeKernel`` or a ``RealKernel``. Its handles exchange the kernel's messages
    with it over a socket pair, and need no privileges. It answers in a thread of its own, which
    gevent's monkey-patching does not change: it blocks no loop. At the end of a ``with`` block it
    is closed. Any thread may use it.

    >>> def passes(kernel: Kernel) -> bool | None:
    ...     return kernel.decide(nfq.Packet.accept, b"data", 2).passed
    >>> passes(kernel)
    True
    """

    name: str
    """``"fake"`` or ``"real"``."""

    def __init__(self, make_queues: Callable[[Send], Queues]) -> None:
        self.net_admin = True
        """If ``False``, all requests are refused with ``EPERM``, as without ``CAP_NET_ADMIN``."""
        self._lock: Any = original("_thread", "allocate_lock")()
        self._waiters = Waiters(self._execute, self._lock)
        self._unheard = Unheard()
        self._queues = make_queues(self._send_packet)
        self._peers: dict[int, Peer] = {}
        self._opened = 0
        self._process = os.getpid()
        self._closed = False
        self._epoll: Any = original("select", "epoll")()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._stop, EPOLLIN)
        self._running: Any = original("_thread", "allocate_lock")()
        self._running.acquire()
        original("_thread", "start_new_thread")(self._run, ())

    # What programs use

    def open(
        self,
        *,
        netns: "StrOrBytesPath | FileDescriptorLike | None" = None,
        fd: "FileDescriptorLike | None" = None,
    ) -> nfq.NetfilterQueueHandle:
        """Open a handle on this kernel, as ``libnetfilterqueue.open()`` does on the real one.

        Args:
            netns: Ignored: there is only one network namespace here.
            fd: A descriptor to adopt, as always. What is behind it is not this kernel.

        Raises ``ClosedError`` if the kernel is
        closed.

        >>> with kernel.open() as handle:
        ...     handle.create_queue(2, nfq.Packet.accept).number
        2
        """
        if fd is not None:
            return _ext.open(fd=fd)
        self._unheard.look()
        with self._locked("open()"):
            self._opened += 1
            self._queues.attach(self._opened)
            peer = Peer(self._opened, caller())
            self._peers[peer.portid] = peer
            self._epoll.register(peer.fileno(), peer.events)
            return peer.open()

    def queue_status(self) -> list[QueueStatus]:
        """The kernel's table, as ``libnetfilterqueue.queue_status()`` returns it.

        >>> [row.waiting for row in kernel.queue_status() if row.queue == 1]
        [2]
        """
        return [
            QueueStatus(
                queue.number,
                queue.portid,
                queue.waiting,
                queue.copy_mode,
                queue.copy_range,
                queue.queue_dropped,
                queue.user_dropped,
                queue.id_sequence,
            )
            for queue in self.queues.values()
        ]

    @contextlib.contextmanager
    def patched(self) -> Iterator[Self]:
        """Makes ``open()``, and ``open_queue()`` of all adapters, open on this kernel.

        It does so until the block ends, in all threads. ``libnetfilterqueue.queue_status()`` then
        reports this kernel's queues. A module that has done ``from libnetfilterqueue import open``
        keeps the real one.

        >>> with kernel.patched(), nfq.open() as handle:
        ...     handle.create_queue(2, nfq.Packet.accept).number
        2
        """
        before = nfq.open, nfq.queue_status
        nfq.open, nfq.queue_status = self.open, self.queue_status
        try:
            with self._waiters.failures.watching(), self._unheard.watching():
                yield self
        finally:
            nfq.open, nfq.queue_status = before

    # What a test uses

    def enqueue(
        self,
        payload: "ReadableBuffer | SupportsBytes",
        number: int = 1,
        *,
        bypass: bool = False,
        match_mark: int | None = None,
        rules: Sequence[Rule] | None = None,
        allow_unbound: bool = False,
        **attributes: Unpack[Attributes],
    ) -> KernelPacket:
        """Send a packet through a queue, as ``-j NFQUEUE --queue-num`` does.

        Args:
            payload: The packet from its network header on: any buffer, or an object with
                ``__bytes__``, such as a packet of scapy's.
            number: The number of the rule's queue.
            bypass: The rule's ``--queue-bypass``: the packet passes if nobody has bound the queue.
            match_mark: The rule's ``-m mark --mark``: packets with another mark pass, also when
                ``NF_REPEAT`` brings them back to the rule. ``None`` matches all.
            rules: Several rules instead, which the packet meets one after the other, and again with
                ``NF_REPEAT``. Behind the last it passes.
            allow_unbound: Whether the test expects nobody to have bound the queue: ``check()`` then
                does not complain.
            attributes: Those of ``Attributes``. One that is ``None`` is left out.

        If the queue is full or nobody listens on it, the packet is dropped at once. Raises
        ``ValueError`` for a value out of range, ``ClosedError`` if the kernel is closed, and
        ``TypeError`` for an unknown attribute or one of another type. The message of the error says
        what would be right.

        >>> sent = kernel.enqueue(b"data", mark=5)
        >>> sent.passed is None  # it waits
        True
        """
        met = make_rules(rules, number, bypass, match_mark)
        skb = Skb(as_bytes(payload), met, check_attributes(attributes), bool(allow_unbound))
        self._queues.check(skb)
        with self._locked("enqueue()"):
            self._drain()
            self._queues.apply_rules(skb)
            self._waiters.look()
        return KernelPacket(self._waiters, skb)

    def enqueue_all(
        self,
        payloads: "Iterable[ReadableBuffer | SupportsBytes]",
        number: int = 1,
        *,
        bypass: bool = False,
        match_mark: int | None = None,
        rules: Sequence[Rule] | None = None,
        allow_unbound: bool = False,
        **attributes: Unpack[Attributes],
    ) -> list[KernelPacket]:
        """Send several packets with the same arguments. Else like ``enqueue()``.

        Args:
            payloads: The packets.
            number: The number of the rule's queue.
            bypass: The rule's ``--queue-bypass``: the packet passes if nobody has bound the queue.
            match_mark: The rule's ``-m mark --mark``: packets with another mark pass, also when
                ``NF_REPEAT`` brings them back to the rule. ``None`` matches all.
            rules: Several rules instead, which the packet meets one after the other, and again with
                ``NF_REPEAT``. Behind the last it passes.
            allow_unbound: Whether the test expects nobody to have bound the queue: ``check()`` then
                does not complain.
            attributes: Those of ``Attributes``. One that is ``None`` is left out.

        >>> sent = kernel.enqueue_all([b"1", b"2"], mark=5)
        >>> [packet.passed for packet in sent]
        [None, None]
        """
        return [
            self.enqueue(
                payload,
                number,
                bypass=bypass,
                match_mark=match_mark,
                rules=rules,
                allow_unbound=allow_unbound,
                **attributes,
            )
            for payload in payloads
        ]

    def enqueue_capture(
        self,
        path: str | Path,
        number: int = 1,
        *,
        bypass: bool = False,
        match_mark: int | None = None,
        rules: Sequence[Rule] | None = None,
        allow_unbound: bool = False,
        **attributes: Unpack[Attributes],
    ) -> list[KernelPacket]:
        """Send the IP packets of a pcap or pcapng file. Else like ``enqueue()``.

        Args:
            path: The file.
            number: The number of the rule's queue.
            bypass: The rule's ``--queue-bypass``: the packet passes if nobody has bound the queue.
            match_mark: The rule's ``-m mark --mark``: packets with another mark pass, also when
                ``NF_REPEAT`` brings them back to the rule. ``None`` matches all.
            rules: Several rules instead, which the packet meets one after the other, and again with
                ``NF_REPEAT``. Behind the last it passes.
            allow_unbound: Whether the test expects nobody to have bound the queue: ``check()`` then
                does not complain.
            attributes: Those of ``Attributes``. One that is ``None`` is left out.

        They begin at their network header and have the file's timestamps. Bytes that the capture
        cut off count in the original length. Frames without an IP packet are skipped. Raises
        ``ValueError`` for a link type that is not known to carry IP packets, if no frame has an IP
        packet, and if the file is damaged or ends within a packet. Raises ``ImportError`` without
        scapy (the extra ``testing``), ``OSError``, and scapy's ``Scapy_Exception`` for a file of
        another format. After an error no packet was sent.

        >>> sent = kernel.enqueue_capture("dns.pcap")
        >>> len(sent)
        1
        """
        packets = []
        for captured in read_capture(path):
            own: Attributes = {**self._queues.take_over(captured.attributes()), **attributes}
            packets.append(
                self.enqueue(
                    captured.payload,
                    number,
                    bypass=bypass,
                    match_mark=match_mark,
                    rules=rules,
                    allow_unbound=allow_unbound,
                    **own,
                )
            )
        return packets

    @overload
    def decide(
        self,
        callback: Handler,
        payload: "ReadableBuffer | SupportsBytes",
        number: int = 1,
        *,
        default_verdict: int = nfq.NF_DROP,
        timeout: float = TIMEOUT,
        **attributes: Unpack[Attributes],
    ) -> Coroutine[Any, Any, KernelPacket]: ...

    @overload
    def decide(
        self,
        callback: Callback,
        payload: "ReadableBuffer | SupportsBytes",
        number: int = 1,
        *,
        default_verdict: int = nfq.NF_DROP,
        timeout: float = TIMEOUT,
        **attributes: Unpack[Attributes],
    ) -> KernelPacket: ...

    def decide(
        self,
        callback: Callback | Handler,
        payload: "ReadableBuffer | SupportsBytes",
        number: int = 1,
        *,
        default_verdict: int = nfq.NF_DROP,
        timeout: float = TIMEOUT,
        **attributes: Unpack[Attributes],
    ) -> KernelPacket | Coroutine[Any, Any, KernelPacket]:
        """Have a callback decide on one packet, and return the packet as it is then.

        Args:
            callback: A function, also one that blocks greenlets of gevent, or an asynchronous
                function: then this is a coroutine, which is awaited in asyncio or trio.
            payload: The packet, as in ``enqueue()``.
            number: The queue's number.
            default_verdict: The queue's default verdict.
            timeout: How many seconds a function may take that is asynchronous or blocks greenlets.
            attributes: Those of ``enqueue()``.

        It opens a handle, binds the queue with the flags that the attributes need, sends the
        packet, calls ``callback(packet)``, and closes the handle. As with ``serve()``, the packet
        gets the default when an asynchronous function ends without a verdict. What the callback
        raises is raised here.

        Raises ``TimeoutError`` if a function has not ended within ``timeout`` seconds, or if
        ``NF_REPEAT`` brings the packet back for as long. Raises ``PermissionError`` if a program
        has bound the queue, and what ``enqueue()`` raises.

        >>> kernel.decide(nfq.Packet.drop, b"data", 2).passed
        False
        """
        check_timeout("decide(): timeout", timeout)
        decision = Decision(
            self.open,
            lambda: self.enqueue(payload, number, **attributes),
            number,
            flags_for(attributes),
            default_verdict,
            timeout,
        )
        if is_coroutine_function(callback):
            return decision.by_handler(cast(Handler, callback))
        return decision.by_callback(cast(Callback, callback))

    def flush(self, *packets: KernelPacket) -> None:
        """Drop packets that wait, as the kernel does when their device goes down.

        Args:
            packets: The packets, one by one.

        A later verdict on them is refused with ``ENOENT``. Packets that do not wait are left alone.

        >>> kernel.flush(sent)
        >>> sent.passed
        False
        """
        for packet in packets:
            check_type(
                isinstance(packet, KernelPacket), "flush() takes packets, one by one", packet
            )
        with self._locked("flush()"):
            self._drain()
            for packet in packets:
                self._queues.forget(packet._skb)
            self._waiters.look()

    def listening(self, number: int = 1) -> Waitable:
        """Returns what comes true when a program has bound a queue and set its copy mode.

        Args:
            number: The queue's number.

        Call its ``wait()``, or ``await`` it.

        >>> listening = kernel.listening(1).wait()
        """
        check_bits("listening(): number", number, 16)
        return Waitable(
            self._waiters,
            lambda: number in self._queues.bound and self._queues.bound[number].copy_mode,
            f"somebody who listens on queue {number}",
        )

    @property
    def queues(self) -> dict[int, KernelQueue]:
        """The bound queues by their numbers, as they are now."""
        self._execute()
        with self._lock:
            bound = sorted(self._queues.bound.items())
            return {number: queue.snapshot() for number, queue in bound}

    @property
    def refusals(self) -> list[Refusal]:
        """The verdicts that were refused, oldest first."""
        self._execute()
        with self._lock:
            return list(self._queues.refusals)

    def _complaints(self) -> list[Complaint]:
        """What a test must not leave behind, as it is now; see ``check()``."""
        self._execute()
        with self._lock:
            waiting = [
                skb for queue in self._queues.bound.values() for skb in queue.waiting.values()
            ]
            found = [Complaint("allow_undecided", f"{skb} waits for a verdict") for skb in waiting]
            found += [
                Complaint("allow_undecided", f"{skb}: {skb.why}") for skb in self._queues.left
            ]
            found += [Complaint("allow_open", str(peer)) for peer in self._peers.values()]
            found += [Complaint("allow_refused", str(refusal)) for refusal in self._queues.refusals]
            found += [
                Complaint("allow_unbound", f"{skb}: {skb.why}")
                for skb in self._queues.unbound
                if not skb.allow_unbound
            ]
        unheard = [*self._waiters.failures.threads(), *self._unheard.found()]
        return found + [Complaint("allow_unheard", text) for text in unheard]

    def check(self, **allowed: bool) -> None:
        """Complain of what a test leaves behind: the fixtures do it at their end.

        Args:
            allowed: What it may leave behind, each ``True`` by its name below.

        Raises ``AssertionError`` if a packet waits for its verdict, or had none when its queue
        ended (``allow_undecided=True`` allows that); if a handle is open (``allow_open``); if the
        kernel refused a verdict (``allow_refused``); if a packet came to a number that nobody had
        bound (``allow_unbound``); and if, while ``patched()``, an exception of a callback, a
        handler, a task, a greenlet or a thread went to a log and to nobody else
        (``allow_unheard``).

        >>> kernel.check(allow_undecided=True, allow_open=True)
        """
        kinds = check_allowed("check()", allowed)
        text = describe(found for found in self._complaints() if found.allowed_by not in kinds)
        if text:
            raise AssertionError(text)

    def close(self) -> None:
        """Drop what waits, end the thread and close the sockets. Does nothing the second time.

        Handles that are still open can only be closed then. In a child of fork it does nothing.

        >>> kernel.close()
        """
        if self._process != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._drain()
            self._closed = True
            for queue in list(self._queues.bound.values()):
                self._queues.unbind(queue)
            self._waiters.look()
        os.eventfd_write(self._stop, 1)
        self._running.acquire()
        self._epoll.close()
        os.close(self._stop)
        for peer in self._peers.values():
            peer.close()
        self._queues.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # The kernel's own

    def _execute(self) -> None:
        """Execute what programs have sent; the thread does it too, a moment later."""
        self._check_process()
        with self._lock:
            self._drain()

    def _check_process(self) -> None:
        """A child of fork has neither the thread nor, maybe, the lock; its sockets are shared."""
        if self._process != os.getpid():
            raise RuntimeError(f"a child of fork can't use the {self.name} kernel of its parent")

    @contextlib.contextmanager
    def _locked(self, operation: str) -> Iterator[None]:
        self._check_process()
        with self._lock:
            if self._closed:
                raise nfq.ClosedError(f"{operation}: the {self.name} kernel is closed")
            yield

    def _run(self) -> None:
        try:
            while self._stop not in (fd for fd, _ in self._epoll.poll()):
                self._execute()
        finally:
            self._running.release()

    def _send_packet(self, portid: int, message: bytes) -> bool:
        return self._peers[portid].send_packet(message)

    def _drain(self) -> None:
        if self._closed:
            return
        for peer in list(self._peers.values()):
            peer.pay()
            for datagram in peer.receive():
                self._receive(peer, datagram)
            if peer.ended:
                self._release(peer)
            else:
                self._epoll.modify(peer.fileno(), peer.events)
        self._waiters.look()

    def _release(self, peer: Peer) -> None:
        """nfqnl_rcv_nl_event(): the last copy of a handle's descriptor is closed."""
        del self._peers[peer.portid]
        self._epoll.unregister(peer.fileno())
        peer.close()
        self._queues.release(peer.portid)

    def _receive(self, peer: Peer, datagram: bytes) -> None:
        """nfnetlink_rcv(): executes the messages of a datagram, and answers."""
        for request in nl.messages_in(datagram):
            error = self._request(peer, request)
            if error or nl.Header.read(request).flags & nl.NLM_F_ACK:
                peer.answer(nl.error_message(error, request))
            if not self.net_admin:
                return  # it did not look at the others

    def _request(self, peer: Peer, request: bytes) -> int:
        """Executes a message; an errno, or 0."""
        header = nl.Header.read(request)
        if header.kind == nl.NLMSG_NOOP and len(request) > nl.HEADER:
            peer.set_rcvbuf(nl.read_rcvbuf(request))
            return 0
        handlers: dict[int, Callable[[int, bytes], object]] = {
            nl.MSG_CONFIG: self._queues.configure,
            nl.MSG_VERDICT: self._queues.decide,
            nl.MSG_VERDICT_BATCH: self._queues.decide,
        }
        if not self.net_admin:
            self._queues.refuse(request, errno.EPERM)
            return errno.EPERM
        if header.kind < NLMSG_MIN_TYPE or not header.flags & nl.NLM_F_REQUEST:
            return 0
        if header.kind not in handlers:
            return errno.EINVAL
        try:
            handlers[header.kind](peer.portid, request)
        except Refused as refused:
            return refused.error
        return 0


def as_bytes(payload: "ReadableBuffer | SupportsBytes") -> bytes:
    """What a packet consists of; not bytes(), which makes zeros of a number."""
    if isinstance(payload, SupportsBytes):
        return payload.__bytes__()
    return bytes(memoryview(payload))


def caller() -> str:
    """The line of the program or the test that has called this package."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
