# SPDX-License-Identifier: GPL-2.0-or-later
"""The C core of libnetfilterqueue; see the package."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol, SupportsIndex, final

from _typeshed import FileDescriptorLike, ReadableBuffer, StrOrBytesPath, WriteableBuffer

from libnetfilterqueue.constants import Hook, SkbInfo, Verdict
from libnetfilterqueue.tuples import Conntrack, HandleStats, QueueStatus, Vlan

class _Float(Protocol):
    def __float__(self) -> float: ...

NF_DROP: Final[int]
NF_ACCEPT: Final[int]
NF_STOLEN: Final[int]
NF_QUEUE: Final[int]
NF_REPEAT: Final[int]
NF_STOP: Final[int]
NFQNL_COPY_NONE: Final[int]
NFQNL_COPY_META: Final[int]
NFQNL_COPY_PACKET: Final[int]
NFQA_CFG_F_FAIL_OPEN: Final[int]
NFQA_CFG_F_CONNTRACK: Final[int]
NFQA_CFG_F_GSO: Final[int]
NFQA_CFG_F_UID_GID: Final[int]
NFQA_CFG_F_SECCTX: Final[int]
NFQA_SKB_CSUMNOTREADY: Final[int]
NFQA_SKB_GSO: Final[int]
NFQA_SKB_CSUM_NOTVERIFIED: Final[int]
NF_INET_PRE_ROUTING: Final[int]
NF_INET_LOCAL_IN: Final[int]
NF_INET_FORWARD: Final[int]
NF_INET_LOCAL_OUT: Final[int]
NF_INET_POST_ROUTING: Final[int]

__version__: Final[str]

class ClosedError(ValueError):
    """The handle, stream or attachment is closed, or the queue is destroyed.

    >>> handle.close()
    >>> handle.process()
    Traceback (most recent call last):
    libnetfilterqueue.ClosedError: ...
    """

class MalformedMessageError(ValueError):
    """Bytes given to ``handle_packet()`` are not a valid netlink message.

    >>> handle.handle_packet(b"no message")
    Traceback (most recent call last):
    libnetfilterqueue.MalformedMessageError: ...
    """

class VerdictError(RuntimeError):
    """A packet whose verdict has been executed was given a second one.

    >>> packet.accept()
    >>> packet.drop()
    Traceback (most recent call last):
    libnetfilterqueue.VerdictError: ...
    """

@final
class NetfilterQueueHandle:
    """One netlink socket and the queues that are bound on it. ``open()`` makes it.

    The loop is yours: receive on its descriptor and call ``handle_packet()``, or call
    ``process()``, which receives many messages at once. As a context manager it closes itself. A
    handle that is dropped open is closed with a ``ResourceWarning``. Any thread may use it. See
    nfq_open(3).

    >>> with nfq.open() as handle:
    ...     handle.create_queue(2, nfq.Packet.accept).number
    2
    """
    @property
    def autoflush(self) -> bool:
        """Whether verdicts given outside of callbacks are sent at once, a bool.

        It is ``True`` unless set. If it is ``False``, they wait for ``flush()`` or the end of the
        next dispatch, and are sent together. Setting it to ``True`` sends those that wait. Setting
        it raises ``ClosedError`` for a closed handle, ``OSError`` if they can't be sent.
        """
    @autoflush.setter
    def autoflush(self, autoflush: bool) -> None: ...
    @property
    def hold_limit(self) -> float | None:
        """How long verdicts are held back for others: seconds, a float, or ``None``.

        It matters while ``autoflush`` is ``False``. A verdict that is given later than this, after
        verdicts were last sent or after this was set, is sent at once, with all that are held back.
        So is every verdict if it is 0. ``None``, which it is unless set, has them wait for
        ``flush()`` or the next dispatch. Setting it sends nothing.

        Setting it raises ``ValueError`` for a number below 0, ``TypeError``, ``ClosedError`` for a
        closed handle, ``RuntimeError`` after fork.
        """
    @hold_limit.setter
    def hold_limit(self, seconds: _Float | SupportsIndex | None) -> None: ...
    @property
    def on_held(self) -> Callable[[], object] | None:
        """What is called when a verdict is held back: a callable without arguments, or ``None``.

        Adapters use it. It is called for the first verdict that is held back since verdicts were
        last sent, in the thread that gives that verdict. See ``autoflush``. Setting it raises
        ``TypeError`` for what can't be called, ``ClosedError`` for a closed handle,
        ``RuntimeError`` after fork.
        """
    @on_held.setter
    def on_held(self, function: Callable[[], object] | None) -> None: ...
    @property
    def on_unsent(self) -> Callable[[], object] | None:
        """What is called when verdicts could not be sent: a callable without arguments or ``None``.

        Adapters use it, and call ``flush()`` some time later. It is called by the call that raises
        the ``OSError``. It is also called in the thread in which a packet's last reference goes, if
        the default verdict could not be sent, or if that is not known yet. Setting it raises
        ``TypeError`` for what can't be called, ``ClosedError`` for a closed handle,
        ``RuntimeError`` after fork.
        """
    @on_unsent.setter
    def on_unsent(self, function: Callable[[], object] | None) -> None: ...
    @property
    def on_close(self) -> Callable[[], object] | None:
        """What is called before the descriptor closes: a callable without arguments, or ``None``.

        Adapters use it. It is called once, in the thread that closes the handle. Setting it raises
        ``TypeError`` for what can't be called, ``ClosedError`` for a closed handle,
        ``RuntimeError`` after fork.
        """
    @on_close.setter
    def on_close(self, function: Callable[[], object] | None) -> None: ...
    @property
    def on_verdict_error(self) -> Callable[[int | None, int, OSError], object] | None:
        """What is called for each verdict that was refused or not sent: a callable or ``None``.

        The kernel refused the verdict, or it could not be sent. The arguments are the queue's
        number, the packet's id and an ``OSError``. For a batch verdict the id is that of the last
        packet. The number is ``None`` on an adopted socket with ``NETLINK_CAP_ACK``.

        A refusal is reported by ``process()``, ``handle_packet()`` or ``close()``, whichever reads
        it from the kernel. The most frequent error is ``ENOENT``: the kernel has dropped the packet
        meanwhile, for example with its device, or another verdict has released it. ``EPERM`` means
        that ``CAP_NET_ADMIN`` is gone: the packet waits, and the kernel reports only the first of
        the verdicts that were sent together. A packet that the kernel drops because of its new
        payload is not reported: see ``set_verdict``.

        ``EMSGSIZE`` means that the verdict's payload does not fit in the send buffer
        (``SO_SNDBUF``). The packet has had its queue's default verdict instead. This is reported as
        soon as it is found, by any call that sends verdicts.

        An ``Exception`` that it raises goes to ``sys.unraisablehook``. Other exceptions, such as
        ``KeyboardInterrupt`` and ``SystemExit``, are raised by the call that reports.

        Setting it raises ``TypeError`` for what can't be called, ``ClosedError`` for a closed
        handle, ``RuntimeError`` after fork.

        Kernel: ``NLMSG_ERROR``; netlink(7).
        """
    @on_verdict_error.setter
    def on_verdict_error(
        self, function: Callable[[int | None, int, OSError], object] | None
    ) -> None: ...
    @property
    def rcvbuf(self) -> int:
        """The size of the socket's receive buffer in bytes as the kernel counts them, an int.

        Packets that nobody has read yet wait in this buffer. The kernel charges more for a packet
        than its length. It doubles the size that is set, so that reading returns twice that size.
        The buffer grows with each queue that is created, until its size is set.

        Sizes are 0 to ``2**31-1``. With ``CAP_NET_ADMIN`` in the initial user namespace the size
        may exceed the sysctl ``net.core.rmem_max``. Otherwise it is cut to that. The kernel has a
        least size too.

        Any thread and any callback may use it. Raises ``ValueError`` for a number out of range,
        ``ClosedError`` for a closed handle, ``TypeError``, ``OSError``, ``RuntimeError`` after
        fork.

        Kernel: ``SO_RCVBUFFORCE``, ``SO_RCVBUF``; socket(7).
        """
    @rcvbuf.setter
    def rcvbuf(self, size: SupportsIndex) -> None: ...
    @property
    def no_enobufs(self) -> bool:
        """Whether the kernel keeps silent when it loses messages, a bool; ``False`` unless set.

        It loses messages when the receive buffer is full. If this is ``True``, your own ``recv``
        does not fail with ``ENOBUFS`` and ``process()`` counts no overruns. The packets are lost
        all the same.

        Any thread and any callback may use it. Raises ``ClosedError`` for a closed handle,
        ``OSError`` for an adopted descriptor that is not a netlink socket, ``RuntimeError`` after
        fork.

        Kernel: ``NETLINK_NO_ENOBUFS``; netlink(7).
        """
    @no_enobufs.setter
    def no_enobufs(self, no_enobufs: bool) -> None: ...
    @property
    def closed(self) -> bool:
        """Whether the handle is closed, a bool."""
    @property
    def kept(self) -> bool | None:
        """Whether the socket outlives the process, a bool; ``None`` if that is not known.

        ``libnetfilterqueue.keeping.open()`` finds it out. It is ``False`` for other handles.
        """
    def bind_pf(self, family: SupportsIndex, /) -> None:
        """Bind the handle to a protocol family.

        Args:
            family: The number of the family, 0 to 255, such as ``AF_INET`` or ``AF_INET6``.

        Kernels since 3.8 need no such binding. They answer every request alike. Never waits. Raises
        ``ValueError`` for a number out of range, ``ClosedError`` for a closed handle,
        ``TypeError``, ``OSError`` if the kernel refuses (``PermissionError`` without
        ``CAP_NET_ADMIN``), ``RuntimeError`` after fork.

        >>> handle.bind_pf(socket.AF_INET)

        Kernel: ``NFQNL_CFG_CMD_PF_BIND``; nfq_bind_pf(3).
        """
    def unbind_pf(self, family: SupportsIndex, /) -> None:
        """Unbind the handle from a protocol family.

        Args:
            family: The number of the family, 0 to 255, such as ``AF_INET`` or ``AF_INET6``.

        All else is as in ``bind_pf``.

        >>> handle.unbind_pf(socket.AF_INET)

        Kernel: ``NFQNL_CFG_CMD_PF_UNBIND``; nfq_unbind_pf(3).
        """
    def create_queue(
        self,
        number: SupportsIndex,
        callback: Callable[[NetfilterQueueData], None],
        *,
        mode: SupportsIndex | None = 2,
        range: SupportsIndex = 65535,
        maxlen: SupportsIndex | None = None,
        flags: SupportsIndex = 0,
        rcvbuf: SupportsIndex | None = None,
        default_verdict: SupportsIndex = 0,
        unanswered: SupportsIndex | None = None,
        shared: bool = False,
    ) -> NetfilterQueueQueueHandle:
        """Bind a queue number, and return its ``NetfilterQueueQueueHandle``.

        Args:
            number: The queue's number, 0 to 65535.
            callback: What ``handle_packet()`` and ``process()`` call with each packet, a
                ``NetfilterQueueData``. What it returns is ignored. Only if it returns an awaitable,
                the dispatch closes that and raises ``TypeError``, as if the callback had raised it.
            mode: The ``CopyMode``, as in ``set_mode``: the whole packet unless named. With ``None``
                or ``NFQNL_COPY_NONE`` the kernel drops all packets until ``set_mode`` is called.
            range: How many bytes of a packet are copied, as in ``set_mode``.
            maxlen: How many packets may wait, as in ``set_maxlen``. ``None`` leaves the kernel's
                1024.
            flags: The ``QueueFlag`` bits to set.
            rcvbuf: The size of the socket's receive buffer, which all queues of the handle share.
                With ``None`` it grows, so that ``maxlen`` packets of 1500 bytes have room beside
                those of the other queues. It grows up to 64 MiB, as far as the system allows, and
                never shrinks. It stays as it is if somebody has set it, here or by
                ``NetfilterQueueHandle.rcvbuf``. A number of bytes, up to ``2**31-1``, is set as
                that attribute sets it. 0 leaves the buffer as it is.
            default_verdict: The verdict of packets that nobody gives one, ``NF_DROP`` unless named.
            unanswered: The verdict of packets that earlier readers of a queue that is taken over
                have received and not answered. ``None`` is ``default_verdict``.
            shared: Whether another process goes on reading the socket. What it has received is left
                to it, also if it ends, until the queue is destroyed or taken over. No batch verdict
                is sent.

        All of these are configured together with the binding.

        A number that another process has bound on this very socket (see ``open(fd=)``) is taken
        over. Nothing is unbound, and the queue is configured as a new one would be. Packets that
        the earlier readers have not answered get ``unanswered`` before the call returns. It is put
        off until a packet has been dispatched if the kernel's table of queues can't be read (see
        ``queue_status``), and until the calls of ``process()`` or ``handle_packet()`` have ended
        that have packets in hand. With
        ``NF_REPEAT`` these packets go through their table or base chain again. They are queued
        anew if the rules still say so. Meanwhile the kernel's queue is longer by their number. A
        loop of your own that reads the socket begins after this call: what it has read and not
        passed to ``handle_packet()`` counts as the earlier readers'.

        Packets for other numbers that are bound on an adopted socket are set aside until their
        number is created. ``unclaimed()`` lists those numbers.

        Any thread and any callback may call it at any time. It neither waits nor calls callbacks.
        Only with ``shared=True`` it waits for up to a second for an answer that the other process
        has read. Raises ``ValueError`` for a value out of range, ``ClosedError`` for a closed handle,
        ``TypeError`` for a wrong type, a coroutine function and a generator function,
        ``RuntimeError`` after fork.

        Raises ``OSError`` if the kernel refuses; then nothing stays bound. It is
        ``PermissionError`` without ``CAP_NET_ADMIN`` and for a number that another program has
        bound, ``EBUSY`` for a number that a handle of this process has bound on the socket,
        ``EOPNOTSUPP`` or ``EINVAL`` for a flag that the kernel does not know. It is
        ``TimeoutError`` if another process or thread reads all of the kernel's answers. On an
        adopted socket the number may be another process's then, and may stay bound if the table
        can't be read. A queue that could not be taken over stays bound.

        >>> handle.create_queue(2, nfq.Packet.accept, maxlen=4096).number
        2

        Kernel: ``NFQNL_CFG_CMD_BIND``; nfq_create_queue(3).
        """
    def handle_packet(self, buffer: ReadableBuffer, /) -> int:
        """Dispatch what your own loop has received, and return the number of packets.

        Args:
            buffer: A C-contiguous object with the buffer protocol. It holds one or more netlink
                messages. The callbacks' packets look into it without a copy. It is held as long as
                views of payloads look into it.

        What a configuration call has set aside is dispatched first. A packet
        whose message was cut by a short buffer is dispatched, and its ``truncated`` is ``True``.
        The verdicts are sent before the call returns.

        Never reads the descriptor and never waits. Any thread and any callback may call it.

        Raises ``MalformedMessageError`` for bytes that are not a valid netlink message, once the
        messages in front of them were dispatched. Raises the first exception of a callback, once
        the rest was dispatched. If that is not an ``Exception``, it is raised at once, and the rest
        is set aside for the next dispatch. Raises ``ClosedError`` for a closed handle,
        ``TypeError``, ``BufferError``, ``OSError`` if verdicts can't be sent, ``RuntimeError``
        after fork. See nfq_handle_packet(3).

        >>> with socket.socket(fileno=os.dup(handle.fd())) as sock:
        ...     handle.handle_packet(sock.recv(66000))
        1
        """
    def process(
        self, max_packets: SupportsIndex = 64, timeout: _Float | SupportsIndex | None = 0
    ) -> int:
        """Receive and dispatch the messages that wait, and return the number of packets.

        Args:
            max_packets: The largest number of packets to dispatch, at least 1.
            timeout: How long to wait for the first packet, in seconds. 0 does not wait, and
                ``None`` waits for ever.

        The verdicts are sent together before the call returns, and earlier when callbacks are slow.

        When the kernel has lost messages (``ENOBUFS``), this is counted in
        ``HandleStats.overruns``, and reading goes on. Waiting releases the GIL. Signal handlers run
        meanwhile, and an exception of theirs ends the wait. Any thread and any callback may call
        it.

        If a callback closes the handle, the call returns the number of packets dispatched until
        then. Raises the first exception of a callback, once the rest of the batch was dispatched.
        If that is not an ``Exception``, it is raised at once, and the rest is set aside for the
        next dispatch. Raises ``ValueError`` for a number out of range, ``ClosedError`` for a handle
        that is closed or that is closed while this call waits, ``TypeError``, ``OSError`` if
        receiving or sending fails, ``RuntimeError`` after fork.

        >>> handle.process(timeout=1)
        1
        """
    def fd(self) -> int:
        """The netlink socket's descriptor, an int.

        It is blocking, unless a non-blocking one was adopted. It is closed with the handle, and in
        children of fork. A child program gets a copy, by ``os.dup()``. Raises ``ClosedError`` for a
        closed handle, ``RuntimeError`` after fork. See nfq_fd(3).

        >>> os.get_blocking(handle.fd())
        True
        """
    def fileno(self) -> int:
        """The same as ``fd()``, so that the handle can be given to select and selectors.

        >>> select.select([handle], [], [], 1)[0] == [handle]
        True
        """
    def flush(self) -> None:
        """Send the verdicts that are held back (see ``autoflush``). Does nothing if there are none.

        Never waits. Any thread and any callback may call it. Raises ``ClosedError`` for a closed
        handle, ``OSError`` if they can't be sent, ``RuntimeError`` after fork.

        >>> handle.autoflush = False
        >>> packet.accept()
        >>> handle.flush()
        """
    def stats(self) -> HandleStats:
        """The counters since ``open()``, a ``HandleStats``. A closed handle has them too.

        Raises ``RuntimeError`` after fork.

        >>> handle.stats().packets
        1
        """
    def close(self, *, unbind: bool = False) -> None:
        """Destroy the queues and close the descriptor.

        Args:
            unbind: Whether the queues of a handle that is kept are destroyed too.

        The queues of a handle whose ``kept`` is not ``False`` are not destroyed: they stay bound,
        and packets without a verdict wait for the next process, as with ``detach()``. With
        ``unbind=True`` they are destroyed, and whoever keeps the socket forgets it.

        Does nothing if the handle is closed already. A thread that waits in ``process()`` is woken
        and gets a ``ClosedError``. In a child of fork the handles of its parent are closed already.
        Waits only for whoever is to forget the socket, for 5 seconds at most. Any thread and any
        callback may call it. It raises no exceptions of its own. If ``on_close`` or
        ``on_verdict_error`` raises something that is not an ``Exception``, that is raised once the
        handle is closed. See nfq_close(3).

        >>> handle.close()
        >>> handle.closed
        True
        """
    def detach(self) -> int:
        """Close the handle, leave its queues bound, and return the descriptor, an int.

        The descriptor is the caller's, who passes it to another process and closes it. The queues
        live as long as a copy of it does. The other process takes them over by ``open(fd=)`` and
        ``create_queue``. Verdicts that are recorded are sent first. Packets without a verdict stay
        in the kernel, unanswered. A verdict on such a packet is then a ``ClosedError``. A thread
        that waits in ``process()`` is woken and gets a ``ClosedError``. ``on_close`` is called.

        Never waits. Any thread and any callback may call it. Raises ``ClosedError`` for a closed
        handle, ``OSError`` if verdicts can't be sent (the handle stays open then), ``RuntimeError``
        after fork.

        >>> descriptor = handle.detach()
        >>> os.close(descriptor)  # or hand it to another process
        """
    def unclaimed(self) -> list[int]:
        """List the numbers that are bound on the socket and have no queue here.

        Another process has bound them, on a copy of the descriptor. The list is in ascending order.

        Any thread and any callback may call it. Raises ``ClosedError`` for a closed handle,
        ``PermissionError`` and other ``OSError`` where the kernel's table can't be read (see
        ``queue_status``) or the descriptor is not a netlink socket, ``RuntimeError`` after fork.

        >>> try:
        ...     numbers = handle.unclaimed()
        ... except OSError:  # the table can't be read
        ...     numbers = []
        """
    def __enter__(self) -> NetfilterQueueHandle:
        """Return the handle itself. Raises ``ClosedError`` if it is closed."""
    def __exit__(self, *exception: object) -> None:
        """Call ``close()``."""

@final
class NetfilterQueueQueueHandle:
    """One bound queue number. ``NetfilterQueueHandle.create_queue`` makes it.

    As a context manager it destroys itself. Any thread may use it.

    >>> with handle.create_queue(2, nfq.Packet.accept) as queue:
    ...     queue.number
    2
    """
    @property
    def callback(self) -> Callable[[NetfilterQueueData], None]:
        """What is called with each packet, a callable.

        If it is replaced, the new one is called from the next packet on. Any thread and any
        callback may use it. Raises ``ClosedError`` for a destroyed queue, ``RuntimeError`` after
        fork. Setting it raises ``TypeError`` for what ``create_queue`` does not take.
        """
    @callback.setter
    def callback(self, function: Callable[[NetfilterQueueData], None]) -> None: ...
    @property
    def default_verdict(self) -> Verdict | int:
        """The ``Verdict`` of packets that nobody gives one. It is ``NF_DROP`` unless set.

        Takes what ``set_verdict`` takes. Raises ``ValueError`` for another number, ``ClosedError``
        for a destroyed queue, ``TypeError``, ``RuntimeError`` after fork.
        """
    @default_verdict.setter
    def default_verdict(self, verdict: SupportsIndex) -> None: ...
    @property
    def number(self) -> int:
        """The queue's number, an int from 0 to 65535."""
    @property
    def handle(self) -> NetfilterQueueHandle:
        """The ``NetfilterQueueHandle`` that the queue is bound on, or was."""
    @property
    def destroyed(self) -> bool:
        """Whether the queue is destroyed, by itself or with its handle, a bool."""
    def set_mode(self, mode: SupportsIndex, range: SupportsIndex) -> None:
        """Set how much of each packet the kernel copies to user space.

        Args:
            mode: A ``CopyMode``: ``NFQNL_COPY_NONE`` (nothing is queued, packets are dropped),
                ``NFQNL_COPY_META`` (attributes only) or ``NFQNL_COPY_PACKET`` (the payload too).
            range: The number of payload bytes to copy, 0 to ``2**32-1``. The kernel copies at most
                65531 bytes, and takes 0 for 65531.

        Any thread and any callback may call it at any time. It neither waits nor calls callbacks.
        Raises ``ValueError`` for a number out of range, ``ClosedError`` for a destroyed queue,
        ``TypeError``, ``OSError`` if the kernel refuses, ``RuntimeError`` after fork.

        >>> queue.set_mode(nfq.NFQNL_COPY_PACKET, 128)

        Kernel: ``NFQA_CFG_PARAMS``; nfq_set_mode(3).
        """
    def set_flags(self, mask: SupportsIndex, flags: SupportsIndex) -> None:
        """Set or clear the queue's flags.

        Args:
            mask: The ``QueueFlag`` bits to change, 0 to ``2**32-1``.
            flags: Their new values, 0 to ``2**32-1``. Bits outside ``mask`` have no effect.

        Any thread and any callback may call it at any time. It neither waits nor calls callbacks.
        Raises ``ValueError`` for a number out of range, ``ClosedError`` for a destroyed queue,
        ``TypeError``, ``OSError`` (``EOPNOTSUPP``, ``EINVAL``) for a flag that the kernel does not
        know, ``RuntimeError`` after fork.

        >>> queue.set_flags(nfq.NFQA_CFG_F_FAIL_OPEN, nfq.NFQA_CFG_F_FAIL_OPEN)

        Kernel: ``NFQA_CFG_MASK`` and ``NFQA_CFG_FLAGS``; nfq_set_queue_flags(3).
        """
    def set_maxlen(self, queuelen: SupportsIndex) -> None:
        """Set how many packets may wait in the kernel's queue.

        Args:
            queuelen: The number of packets, 0 to ``2**32-1``.

        The kernel starts with 1024. When so many packets wait, it drops each further one, or lets
        it pass with ``NFQA_CFG_F_FAIL_OPEN``.

        The socket's receive buffer may be full before that: a packet of 1500 bytes takes about 2300
        bytes of it. The buffer grows with this number as in ``create_queue``, unless the queue was
        created with another ``rcvbuf`` than ``None``.

        Any thread and any callback may call it at any time. It neither waits nor calls callbacks.
        Raises ``ValueError`` for a number out of range, ``ClosedError`` for a destroyed queue,
        ``TypeError``, ``OSError`` if the kernel refuses, ``RuntimeError`` after fork.

        >>> queue.set_maxlen(4096)

        Kernel: ``NFQA_CFG_QUEUE_MAXLEN``; nfq_set_queue_maxlen(3).
        """
    def set_verdict_batch(
        self,
        verdict: SupportsIndex,
        up_to_id: SupportsIndex,
        mark: SupportsIndex | None = None,
        *,
        priority: SupportsIndex | None = None,
    ) -> None:
        """Give one verdict to all packets of the queue that wait for theirs, up to an id.

        Args:
            verdict: A ``Verdict`` or what ``NF_QUEUE_NR`` returns.
            up_to_id: The id of the last packet that gets it, 0 to ``2**32-1``. Ids wrap, and are
                compared as the kernel does, modulo ``2**32``: an id that is ``2**31`` or more ahead
                of the packets counts as older than they are, and the call does nothing.
            mark: The packets' new mark, 0 to ``2**32-1`` in host byte order. ``None`` leaves it.
            priority: Their new priority, likewise.

        The verdict is for packets that were dispatched: those that were kept, and those whose
        callbacks run. They then count as executed, and a further verdict on them is a
        ``VerdictError``. Packets that nobody has dispatched yet get verdicts of their own. The
        exception are packets with such an id that another reader of the descriptor holds: they get
        this verdict.

        It is executed at once with ``autoflush``, otherwise at ``flush()`` or the next dispatch. If
        no such packet waits, the call does nothing.

        Never waits. Any thread and any callback may call it. Raises ``ValueError`` for a number out
        of range, ``ClosedError`` for a destroyed queue, ``TypeError``, ``OSError`` if it can't be
        sent, ``RuntimeError`` after fork.

        >>> queue.set_verdict_batch(nfq.NF_ACCEPT, packet.id)

        Kernel: ``NFQNL_MSG_VERDICT_BATCH``, ``NFQA_MARK``, ``NFQA_PRIORITY``;
        nfq_set_verdict_batch2(3).
        """
    def destroy(self) -> None:
        """Unbind the queue. Does nothing if the queue is destroyed already.

        Verdicts that were given are executed first, including those that running callbacks have
        recorded. All other packets that wait, kept or not yet read, get the queue's
        ``default_verdict``. A verdict on such a packet is then a ``ClosedError``. A verdict that
        can't be sent is replaced by the default too, and ``on_verdict_error`` is called.

        The number may be bound again at once. If several loops of your own read the descriptor and
        pass what they read to ``handle_packet()``, stop them first, or bind the number on another
        handle. Otherwise one of them may still hold a message of the old binding when another one
        has already passed on later messages. That message can't be distinguished from the new
        binding's packet of the same id. A single loop of your own needs no such care, nor does any
        number of threads in ``process()``. A packet that may belong to the old binding is not
        passed to the new one's callback. If it belonged to the new one, it gets the default
        verdict.

        Any thread and any callback may call it at any time. It neither waits nor calls callbacks.
        Raises ``OSError`` if the kernel refuses, ``TimeoutError`` if another process or thread
        reads all of its answers (the queue counts as destroyed all the same), ``RuntimeError``
        after fork.

        >>> queue.destroy()
        >>> queue.destroyed
        True

        Kernel: ``NFQNL_CFG_CMD_UNBIND``; nfq_destroy_queue(3).
        """
    def __enter__(self) -> NetfilterQueueQueueHandle:
        """Return the queue itself. Raises ``ClosedError`` if it is destroyed."""
    def __exit__(self, *exception: object) -> None:
        """Call ``destroy()``."""

@final
class NetfilterQueueData:
    """One queued packet that waits for its verdict. A queue's callback gets it.

    It may be kept, and stays valid as long as it is referenced. If it has no verdict when its last
    reference goes, it gets its queue's default. Any thread may use it. Nothing here waits. See
    nfq_get_msg_packet_hdr(3).

    A packet is a read-only buffer of its payload: ``struct.unpack_from("!H", packet, 2)`` reads from
    it without making a memoryview or bytes. Whoever holds such a buffer holds the bytes, not the
    packet.

    >>> def callback(packet):
    ...     if b"forbidden" in packet.get_payload():
    ...         packet.drop()
    ...     else:
    ...         packet.accept()
    >>> handle.create_queue(2, callback).number
    2
    """
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def id(self) -> int:
        """The packet's number in its queue, an int of 32 bits. It counts from 1 and wraps.

        Kernel: ``NFQA_PACKET_HDR``.
        """
    @property
    def queue(self) -> NetfilterQueueQueueHandle:
        """The ``NetfilterQueueQueueHandle`` that has delivered the packet."""
    @property
    def family(self) -> int:
        """The protocol family of the hook, an int: ``AF_INET``, ``AF_INET6`` or ``AF_BRIDGE``.

        Kernel: ``nfgen_family``.
        """
    @property
    def hook(self) -> Hook:
        """The ``Hook`` that queued the packet.

        A hook that only newer kernels have is named by its digits.

        Kernel: ``NFQA_PACKET_HDR``.
        """
    @property
    def hw_protocol(self) -> int:
        """The EtherType, an int in host byte order (0x0800: IPv4, 0x86dd: IPv6).

        Kernel: ``NFQA_PACKET_HDR``.
        """
    @property
    def hw_addr(self) -> bytes:
        """The sender's hardware address as bytes, 6 of them for Ethernet. It is ``b""`` if unknown.

        Kernels know it only for incoming packets.

        Kernel: ``NFQA_HWADDR``.
        """
    @property
    def mark(self) -> int:
        """The netfilter mark, an int of 32 bits in host byte order. It is 0 if the packet has none.

        Kernel: ``NFQA_MARK``.
        """
    @property
    def timestamp(self) -> float | None:
        """When the packet arrived, a float of seconds since the epoch, or ``None``.

        It is exact to the microsecond. Kernels record the time only while some socket on the host
        asks for it (``SO_TIMESTAMP``).

        Kernel: ``NFQA_TIMESTAMP``.
        """
    @property
    def indev(self) -> int:
        """The index of the device that received the packet, an int. It is 0 if unknown.

        Kernel: ``NFQA_IFINDEX_INDEV``.
        """
    @property
    def physindev(self) -> int:
        """The index of the bridge port that received the packet, an int. It is 0 if unknown.

        Kernel: ``NFQA_IFINDEX_PHYSINDEV``.
        """
    @property
    def outdev(self) -> int:
        """The index of the device that will send the packet, an int. It is 0 if unknown.

        Kernel: ``NFQA_IFINDEX_OUTDEV``.
        """
    @property
    def physoutdev(self) -> int:
        """The index of the bridge port that will send the packet, an int. It is 0 if unknown.

        Kernel: ``NFQA_IFINDEX_PHYSOUTDEV``.
        """
    @property
    def payload(self) -> memoryview:
        """The packet from its network header on, a read-only memoryview without a copy.

        The view holds the bytes, not the packet: a packet of which only views are left gets its
        queue's default verdict. Inside a callback that ``handle_packet()`` calls, it looks into the
        caller's buffer.

        Kernel: ``NFQA_PAYLOAD``.
        """
    @property
    def uid(self) -> int | None:
        """The id of the user whose socket sent the packet, an int or ``None``.

        It is the id in the initial user namespace. It needs ``NFQA_CFG_F_UID_GID``.

        Kernel: ``NFQA_UID``.
        """
    @property
    def gid(self) -> int | None:
        """The id of the group whose socket sent the packet, an int or ``None``.

        It is the id in the initial user namespace. It needs ``NFQA_CFG_F_UID_GID``.

        Kernel: ``NFQA_GID``.
        """
    @property
    def skb_info(self) -> SkbInfo:
        """The state of the packet in the kernel, an ``SkbInfo``.

        Its bits say that the checksum is not ready, that the packet has several segments, and that
        the checksum was not verified.

        Kernel: ``NFQA_SKB_INFO``.
        """
    @property
    def original_length(self) -> int:
        """The packet's length in bytes before the copy range or a short buffer cut it, an int.

        Kernel: ``NFQA_CAP_LEN``.
        """
    @property
    def truncated(self) -> bool:
        """Whether the payload is shorter than the packet or the message was cut, a bool.

        Kernel: ``NFQA_CAP_LEN``.
        """
    @property
    def priority(self) -> int:
        """The packet's priority, an int. It is 0 if the packet has none.

        ``SO_PRIORITY`` or the CLASSIFY target sets it.

        Kernel: ``NFQA_PRIORITY``, Linux 5.18.
        """
    @property
    def cgroup_classid(self) -> int:
        """The ``net_cls`` class of the sending socket's control group, an int.

        It is 0 if there is none.

        Kernel: ``NFQA_CGROUP_CLASSID``, Linux 6.4.
        """
    @property
    def secctx(self) -> bytes | None:
        """The packet's security context as bytes, or ``None``.

        It needs ``NFQA_CFG_F_SECCTX``, and a rule that sets the packet's secmark.

        Kernel: ``NFQA_SECCTX``; nfq_get_secctx(3).
        """
    @property
    def vlan(self) -> Vlan | None:
        """The VLAN tag of a packet on a bridge, a ``Vlan`` (proto, tci) or ``None``.

        Kernel: ``NFQA_VLAN``.
        """
    @property
    def l2_header(self) -> bytes | None:
        """The link-layer header of a packet on a bridge as bytes, or ``None``.

        Ethernet's has 14 bytes.

        Kernel: ``NFQA_L2HDR``.
        """
    @property
    def conntrack(self) -> Conntrack | None:
        """The packet's entry in the connection tracking table, a ``Conntrack`` or ``None``.

        It needs ``NFQA_CFG_F_CONNTRACK``.

        Kernel: ``NFQA_CT``.
        """
    @property
    def ct_info(self) -> int | None:
        """How the packet relates to its connection, an int or ``None``.

        It is one of the kernel's ``enum ip_conntrack_info``: 0 established, 1 related, 2 new, 3 and
        more in the reply direction. It needs ``NFQA_CFG_F_CONNTRACK``.

        Kernel: ``NFQA_CT_INFO``.
        """
    @property
    def verdict(self) -> Verdict | int | None:
        """The ``Verdict`` that was set or executed, or ``None``.

        It is an int for ``NF_QUEUE_NR(number)``. It does not show whether the kernel refused the
        verdict: see ``on_verdict_error``.
        """
    def indev_name(self) -> str | None:
        """The present name of the device that received the packet, a str.

        It is ``None`` if unknown or gone. It is looked up in the network namespace of the handle's
        socket. An answer is used for a millisecond. Never waits. Raises ``ClosedError`` for a
        closed handle, ``OSError`` if the kernel refuses, ``RuntimeError`` after fork.

        >>> packet.indev_name()
        'lo'

        Kernel: ``NFQA_IFINDEX_INDEV``, ``SIOCGIFNAME``; netdevice(7).
        """
    def physindev_name(self) -> str | None:
        """The present name of the bridge port that received the packet, a str.

        It is ``None`` if unknown or gone. It is looked up in the network namespace of the handle's
        socket. An answer is used for a millisecond. Never waits. Raises ``ClosedError`` for a
        closed handle, ``OSError`` if the kernel refuses, ``RuntimeError`` after fork.

        >>> packet.physindev_name() is None
        True

        Kernel: ``NFQA_IFINDEX_PHYSINDEV``, ``SIOCGIFNAME``; netdevice(7).
        """
    def outdev_name(self) -> str | None:
        """The present name of the device that will send the packet, a str.

        It is ``None`` if unknown or gone. It is looked up in the network namespace of the handle's
        socket. An answer is used for a millisecond. Never waits. Raises ``ClosedError`` for a
        closed handle, ``OSError`` if the kernel refuses, ``RuntimeError`` after fork.

        >>> packet.outdev_name()
        'lo'

        Kernel: ``NFQA_IFINDEX_OUTDEV``, ``SIOCGIFNAME``; netdevice(7).
        """
    def physoutdev_name(self) -> str | None:
        """The present name of the bridge port that will send the packet, a str.

        It is ``None`` if unknown or gone. It is looked up in the network namespace of the handle's
        socket. An answer is used for a millisecond. Never waits. Raises ``ClosedError`` for a
        closed handle, ``OSError`` if the kernel refuses, ``RuntimeError`` after fork.

        >>> packet.physoutdev_name() is None
        True

        Kernel: ``NFQA_IFINDEX_PHYSOUTDEV``, ``SIOCGIFNAME``; netdevice(7).
        """
    def get_packet_hw(self) -> bytes:
        """The sender's hardware address as bytes, 6 of them for Ethernet. It is ``b""`` if unknown.

        Kernels know it only for incoming packets.

        >>> packet.get_packet_hw().hex(":")
        '02:00:00:00:00:01'

        Kernel: ``NFQA_HWADDR``; nfq_get_packet_hw(3).
        """
    def get_nfmark(self) -> int:
        """The netfilter mark, an int in host byte order. It is 0 if the packet has none.

        >>> packet.get_nfmark()
        5

        Kernel: ``NFQA_MARK``; nfq_get_nfmark(3).
        """
    def get_timestamp(self) -> tuple[int, int] | None:
        """When the packet arrived, a tuple (seconds, microseconds) since the epoch, or ``None``.

        Both are ints. Kernels record the time only while some socket on the host asks for it
        (``SO_TIMESTAMP``).

        >>> packet.get_timestamp()
        (1700000000, 500000)

        Kernel: ``NFQA_TIMESTAMP``; nfq_get_timestamp(3).
        """
    def get_indev(self) -> int:
        """The index of the device that received the packet, an int. It is 0 if unknown.

        >>> socket.if_indextoname(packet.get_indev())
        'lo'

        Kernel: ``NFQA_IFINDEX_INDEV``; nfq_get_indev(3).
        """
    def get_physindev(self) -> int:
        """The index of the bridge port that received the packet, an int. It is 0 if unknown.

        >>> packet.get_physindev()
        0

        Kernel: ``NFQA_IFINDEX_PHYSINDEV``; nfq_get_physindev(3).
        """
    def get_outdev(self) -> int:
        """The index of the device that will send the packet, an int. It is 0 if unknown.

        >>> socket.if_indextoname(packet.get_outdev())
        'lo'

        Kernel: ``NFQA_IFINDEX_OUTDEV``; nfq_get_outdev(3).
        """
    def get_physoutdev(self) -> int:
        """The index of the bridge port that will send the packet, an int. It is 0 if unknown.

        >>> packet.get_physoutdev()
        0

        Kernel: ``NFQA_IFINDEX_PHYSOUTDEV``; nfq_get_physoutdev(3).
        """
    def get_payload(self) -> bytes:
        """A copy of the packet from its network header on, as bytes.

        It is ``b""`` if there is none. The copy mode determines how much of the packet there is.
        The attribute ``payload`` is the same without a copy.

        >>> b"some data" in packet.get_payload()
        True

        Kernel: ``NFQA_PAYLOAD``; nfq_get_payload(3).
        """
    def get_uid(self) -> int | None:
        """The id of the user whose socket sent the packet, an int. It is ``None`` if unknown.

        It is the id in the initial user namespace. It needs ``NFQA_CFG_F_UID_GID``.

        >>> packet.get_uid()
        1000

        Kernel: ``NFQA_UID``; nfq_get_uid(3).
        """
    def get_gid(self) -> int | None:
        """The id of the group whose socket sent the packet, an int. It is ``None`` if unknown.

        It is the id in the initial user namespace. It needs ``NFQA_CFG_F_UID_GID``.

        >>> packet.get_gid()
        1000

        Kernel: ``NFQA_GID``; nfq_get_gid(3).
        """
    def set_verdict(
        self,
        verdict: SupportsIndex,
        mark: SupportsIndex | None = None,
        *,
        payload: ReadableBuffer | None = None,
        priority: SupportsIndex | None = None,
        vlan: tuple[SupportsIndex, SupportsIndex] | Vlan | None = None,
        ct_mark: SupportsIndex | None = None,
        ct_labels: ReadableBuffer | None = None,
        l2_header: ReadableBuffer | None = None,
        expectation: ReadableBuffer | Mapping[str, object] | None = None,
    ) -> None:
        """Give the packet its verdict, and change what is named. ``None`` leaves a thing as it is.

        Args:
            verdict: A ``Verdict`` or what ``NF_QUEUE_NR`` returns. ``NF_STOLEN``, which kernels
                refuse from user space, is executed as ``NF_DROP``. Plain ``NF_QUEUE`` passes the
                packet to queue 0.
            mark: The packet's new mark, 0 to ``2**32-1`` in host byte order.
            payload: The packet's new content from its network header on, a bytes-like object of 1
                to 65531 bytes. An object of type bytes is sent without a copy, any other is copied
                at the call. Checksums are the caller's task: see ``update_checksums``.
            priority: The packet's new priority, 0 to ``2**32-1`` in host byte order.
            vlan: A tuple (proto, tci) of ints from 0 to 65535. Kernels use it only on packets of
                ``AF_BRIDGE``.
            ct_mark: The new mark of the packet's connection, 0 to ``2**32-1`` in host byte order.
            ct_labels: The new labels of its connection, a bytes-like object of 1 to 16 bytes. Bit n
                of the 128 bits is bit n % 8 of byte n / 8 on little-endian machines. Bits beyond
                its end are cleared.
            l2_header: A bytes-like object as long as the packet's own link-layer header. Kernels
                use it only on packets of ``AF_BRIDGE``.
            expectation: A connection that will belong to the packet's own. It is a mapping of
                fields, which ``expectations.build`` documents, or a bytes-like object of at most
                1024 bytes: the nested attributes of ``NFQA_EXP`` in the host's byte order with
                values in network byte order, as libnetfilter_conntrack builds them.
                ``CTA_EXPECT_TUPLE`` and ``CTA_EXPECT_MASK`` must be there.

        Where a kernel allows no new payload, it drops the packet and reports nothing. From Linux
        7.1 on it does so in the network namespaces of user namespaces, from 7.2 on also on bridges,
        and if the IP header names another length, or has other options, extension headers or
        fragment fields than before. From 7.3 on it also does so if the header behind it is cut
        short, or if the protocol is not that of the packet's connection. All kernels drop a packet
        with ``NFQA_SKB_GSO`` whose new payload is no longer than one of its segments.

        Kernels ignore ``ct_mark`` and ``ct_labels`` if the packet has no connection. If labels are
        named, they ignore both also where no rule used labels when the connection began.

        Packets of an expected connection are ``RELATED``. Connection tracking helpers in user space
        use that. The packet's connection must have a helper, say by a rule ``-j CT --helper``. The
        kernel ignores the expectation if it has none, if the packet has no connection, or if
        anything is wrong with it: the verdict is executed, and nothing is reported. It also ignores
        it if it ignores labels beside it.

        Kernels ignore ``ct_mark``, ``ct_labels`` and ``expectation`` while the module
        nf_conntrack_netlink is not loaded. ``NFQA_CFG_F_CONNTRACK`` loads it.

        Inside the packet's callback the verdict is recorded. It is executed when the callback
        returns, and the last one counts. A packet that was kept gets its verdict at once with
        ``autoflush``, otherwise at ``flush()`` or the next dispatch. It gets it only once, from any
        thread. Never waits.

        Raises ``ValueError`` for a value out of range, for an expectation that is none, for a
        payload on a packet that is truncated, and for one that the kernel is known to lose (``update_checksums`` says when). Raises
        ``ClosedError`` if the queue is destroyed, ``VerdictError`` if the packet has had its
        verdict, ``TypeError``, ``OSError`` if it can't be sent, ``RuntimeError`` after fork. A
        refusal of the kernel comes later. It is counted in ``HandleStats.verdict_errors`` and
        reported to ``on_verdict_error``.

        >>> packet.set_verdict(nfq.NF_ACCEPT, mark=7, priority=1)

        Kernel: ``NFQA_VERDICT_HDR``, ``NFQA_MARK``, ``NFQA_PAYLOAD``, ``NFQA_PRIORITY``,
        ``NFQA_VLAN``, ``NFQA_L2HDR``, ``NFQA_CT``, ``NFQA_EXP``; nfq_set_verdict2(3).
        """
    def accept(
        self, mark: SupportsIndex | None = None, payload: ReadableBuffer | None = None
    ) -> None:
        """The same as ``set_verdict(NF_ACCEPT, mark, payload=payload)``: the packet goes on.

        Args:
            mark: The packet's new mark. ``None`` leaves it.
            payload: The packet's new content. ``None`` leaves it.

        >>> packet.accept(mark=7)
        """
    def _settle(self) -> None:
        """For adapters: give the packet its queue's default verdict, which counts as that.

        Otherwise like ``set_verdict``.
        """
    def drop(self) -> None:
        """The same as ``set_verdict(NF_DROP)``: the packet is thrown away.

        >>> packet.drop()
        """
    def repeat(self, mark: SupportsIndex | None = None) -> None:
        """The same as ``set_verdict(NF_REPEAT, mark)``: the packet's chain begins again.

        Args:
            mark: The packet's new mark. ``None`` leaves it.

        That is the chain that queued it. Give the packet a mark whose packets the rule skips.
        Otherwise it comes back for ever.

        >>> packet.repeat(mark=packet.mark | 0x10)
        """
    def requeue(self, number: SupportsIndex, bypass: bool = False) -> None:
        """The same as ``set_verdict(NF_QUEUE_NR(number, bypass))``: another queue gets it.

        Args:
            number: The number of that queue, 0 to 65535.
            bypass: Whether the packet passes if nobody listens on that queue. Otherwise it is
                dropped then.

        >>> packet.requeue(2, bypass=True)
        """

def open(
    *,
    netns: StrOrBytesPath | FileDescriptorLike | None = None,
    fd: FileDescriptorLike | None = None,
) -> NetfilterQueueHandle:
    """Open a netlink socket to the kernel's queues, and return a ``NetfilterQueueHandle``.

    Args:
        netns: Another network namespace in which the socket is opened: its path, or a descriptor
            on it. The calling thread stays in its own namespace. The handle then binds the queues
            of the other one.
        fd: A descriptor of which the handle uses a copy instead. It is a ``NETLINK_NETFILTER``
            socket that was opened elsewhere, or one end of a datagram socket pair on whose other
            end a test plays the kernel.

    Handles on one socket read each other's packets: only one of them should read. On a pair of
    ``SOCK_SEQPACKET`` sockets the other end must read everything: while the pair is full, calls
    wait for 2 seconds at most. ``rcvbuf`` is only a number that the other end gets. If that end is
    closed, calls raise ``ConnectionError``. Child programs do not inherit the descriptor.

    Opening needs no capability, except ``CAP_SYS_ADMIN`` for ``netns``. Binding queues needs one.
    Never waits. Raises ``OSError`` if the socket can't be opened, ``netns`` is not a network
    namespace, or ``fd`` is not a socket; ``ValueError`` for an ``fd`` of another kind, and if both
    are given; ``TypeError``. See nfq_open(3), setns(2).

    >>> with nfq.open() as handle:
    ...     handle.create_queue(2, nfq.Packet.accept).number
    2
    """

def _keep(
    handle: NetfilterQueueHandle,
    kept: bool | None,
    tired: bool,
    record: WriteableBuffer,
    on_unbind: Callable[[], object],
    /,
) -> None:
    """Note that somebody keeps the handle's socket.

    The first byte of ``record`` becomes 1 when verdicts are sent, the second one when a callback is
    given a packet. It must not be a memoryview. If ``tired`` is true, packets are not repeated.
    """

def _fileno(handle: NetfilterQueueHandle, /) -> int:
    """Return the descriptor, for who waits on it and never reads it."""

def queue_status() -> list[QueueStatus]:
    """The kernel's table of the queues that are bound in the calling thread's network namespace.

    It is a list of ``QueueStatus``. Raises ``PermissionError`` unless the caller is root of the
    user namespace in which the network namespace was made. If both were made at once
    (``unshare -rn``), only root of the initial user namespace may read it. Raises another
    ``OSError`` if there is no such table.

    >>> [row.waiting for row in nfq.queue_status() if row.queue == 1]
    [2]

    Kernel: ``/proc/net/netfilter/nfnetlink_queue``.
    """

def NF_QUEUE_NR(number: SupportsIndex, bypass: bool = False) -> int:
    """The verdict that passes a packet on to another queue, an int.

    Args:
        number: The number of that queue, 0 to 65535.
        bypass: Whether the packet passes if nobody listens on that queue. Otherwise it is dropped
            then.

    Raises ``ValueError`` for a number out of range, ``TypeError``.

    >>> packet.set_verdict(nfq.NF_QUEUE_NR(2, bypass=True), mark=7)

    Kernel: ``NF_QUEUE_NR``, ``NF_VERDICT_FLAG_QUEUE_BYPASS``.
    """

def update_checksums(buffer: WriteableBuffer, skb_info: SupportsIndex = 0) -> None:
    """Correct, in place, the checksums of the IPv4 or IPv6 packet that the buffer holds.

    Args:
        buffer: A writable, C-contiguous bytes-like object (a bytearray, an mmap, a writable
            memoryview). It begins with the IP header, as a packet's payload does.
        skb_info: The packet's own ``skb_info``, an int of 0 to ``2**32-1``.

    The call corrects the IPv4 header's checksum and that of TCP, UDP, UDP-Lite, SCTP, ICMP or
    ICMPv6, also behind IPv6 extension headers and AH. Of other protocols only the IPv4 header's is
    corrected. If a source route or routing header names a final destination, that one counts. A UDP
    checksum of 0 over IPv4 (none) stays 0. Of a fragment only the IPv4 header's is corrected. Bytes
    behind the packet stay as they are. A TCP packet with a length of 0, as the kernel makes those
    of more than 65535 bytes, ends where the buffer ends.

    The packet inside a tunnel's packet is corrected too: in IPIP, 6in4 and other IP in IP, in GRE,
    and in VXLAN and GENEVE on the UDP ports 4789, 8472 and 6081. VXLAN and GENEVE are found on all
    ports if ``skb_info`` has ``NFQA_SKB_CSUMNOTREADY``. GRE's own checksum is corrected as well.
    Tunnels may be up to three deep. What is not a valid packet in there stays as it is.

    Call it on every payload that replaces a packet's. The kernel takes the bytes as they are, and
    the receiver drops a packet with a wrong checksum. With ``NFQA_CFG_F_GSO`` this holds for an
    unchanged copy too: if ``skb_info`` has ``NFQA_SKB_CSUMNOTREADY``, a checksum is not complete
    yet. A packet that is accepted without a payload needs none of this.

    With ``NFQA_CFG_F_GSO`` pass ``skb_info``. If it has ``NFQA_SKB_GSO``, the kernel cuts the
    packet into segments on its way out. The kernel computes TCP's checksums again. For UDP (QUIC
    and others with ``UDP_SEGMENT``; tunnels) it continues from the sum in the header, which
    therefore becomes the sum of the pseudo header. Linux 6.1 loses such UDP packets on most devices
    all the same, 6.12 does not. In INPUT, and in PREROUTING if the packet is for this host, the
    kernel cuts nothing: pass ``skb_info & ~NFQA_SKB_GSO`` there. UDP packets with that flag then
    reach only sockets with ``UDP_GRO``. Without ``NFQA_CFG_F_GSO`` none of this matters.

    Never waits. Any thread may call it. Raises ``ValueError`` for a packet that is cut short, whose
    lengths contradict each other, or that is not IP; if the checksum that is not ready is in a
    tunnel of another kind; and for SCTP with ``NFQA_SKB_GSO``, which only kernels before 6.12
    deliver and which they can't cut. Then nothing was written. Raises ``TypeError`` for a buffer of
    another kind.

    >>> changed = bytearray(packet.payload)
    >>> changed[8] -= 1  # the time to live
    >>> nfq.update_checksums(changed, packet.skb_info)
    >>> packet.accept(payload=bytes(changed))

    The sums are those of RFC 1071, SCTP's that of RFC 9260.
    """
