# SPDX-License-Identifier: GPL-2.0-or-later
"""The C core of libnetfilterqueue; see the package."""

from collections.abc import Callable
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
    """The handle, stream or attachment is closed, or the queue destroyed."""

class MalformedMessageError(ValueError):
    """Bytes given to ``handle_packet()`` are no valid netlink message."""

class VerdictError(RuntimeError):
    """A second verdict for a packet that has had its own executed."""

@final
class NetfilterQueueHandle:
    """One netlink socket, and the queues that are bound on it; made by ``open()``.

    It leaves the loop to you: receive on its descriptor and call ``handle_packet()``, or
    call ``process()``, which receives many messages at once. A context manager that
    closes it; a handle that is dropped open is closed with a ``ResourceWarning``. May be
    used from several threads. See nfq_open(3).
    """
    @property
    def autoflush(self) -> bool:
        """Whether verdicts given outside of callbacks are sent at once: a bool, ``True``.

        If ``False``, they wait for ``flush()`` or the end of the next dispatch, and leave together.
        Setting it to ``True`` sends those that wait. Setting it raises ``ClosedError`` for a closed
        handle, ``OSError`` if they can't be sent.
        """
    @autoflush.setter
    def autoflush(self, autoflush: bool) -> None: ...
    @property
    def on_held(self) -> Callable[[], object] | None:
        """For adapters: called without arguments when the first verdict is held back since the
        last were sent, in the thread that gives it. A callable or ``None``.

        See autoflush. Setting it raises ``TypeError`` for what can't be called, ``ClosedError`` for
        a closed handle, ``RuntimeError`` after fork.
        """
    @on_held.setter
    def on_held(self, function: Callable[[], object] | None) -> None: ...
    @property
    def on_close(self) -> Callable[[], object] | None:
        """For adapters: called once, without arguments, before the descriptor closes. A callable
        or ``None``.

        It is called in the thread that closes the handle. Setting it raises ``TypeError`` for
        what can't be called, ``ClosedError`` for a closed handle, ``RuntimeError`` after fork.
        """
    @on_close.setter
    def on_close(self, function: Callable[[], object] | None) -> None: ...
    @property
    def on_verdict_error(self) -> Callable[[int | None, int, OSError], object] | None:
        """Called with (queue number, packet id, ``OSError``) for each verdict that the kernel
        refused, or that could not be sent: a callable or ``None``.

        It is called by ``process()``, ``handle_packet()`` or ``close()``, whichever reads the
        kernel's report. ``ENOENT`` is the most frequent reason: the kernel has dropped the packet
        meanwhile, for example with its device, or another verdict released it. ``EPERM``:
        ``CAP_NET_ADMIN`` is gone, and the packet waits; the kernel reports only the first of the
        verdicts that were sent together. For a batch verdict the id is the last that it is about.
        The number is ``None`` on an adopted socket with ``NETLINK_CAP_ACK``.

        ``EMSGSIZE``: the verdict has a payload that does not fit in the send buffer
        (``SO_SNDBUF``). The packet has had its queue's default verdict instead. This is reported as
        soon as it is found out, by whichever call sends verdicts.

        What it raises goes to ``sys.unraisablehook``, unless it is no ``Exception``:
        ``KeyboardInterrupt`` and ``SystemExit`` come out of the call that reports.

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
        """The socket's receive buffer in bytes, as the kernel counts them: an int.

        Here wait the packets that nobody has read yet. The kernel charges a packet more than its
        length, and doubles what is set: reading tells twice that. It grows with each queue that is
        created, but not any more once it was set. Takes 0 to ``2**31-1``. Goes past the sysctl
        ``net.core.rmem_max`` with ``CAP_NET_ADMIN`` in the initial user namespace, else is cut to
        it; the kernel has a least size too. May be used from any thread, and from a callback.
        Raises ``ValueError`` for a number out of range, ``ClosedError`` for a closed handle,
        ``TypeError``, ``OSError``, ``RuntimeError`` after fork.

        Kernel: ``SO_RCVBUFFORCE``, ``SO_RCVBUF``; socket(7).
        """
    @rcvbuf.setter
    def rcvbuf(self, size: SupportsIndex) -> None: ...
    @property
    def no_enobufs(self) -> bool:
        """Whether the kernel keeps quiet about messages that the receive buffer had no room for: a
        bool, ``False``.

        If ``True``, neither a recv of your own fails with ``ENOBUFS`` nor does ``process()`` count
        overruns; the packets are lost as before. May be used from any thread, and from a
        callback. Raises ``ClosedError`` for a closed handle, ``OSError`` for an adopted descriptor
        that is no netlink socket, ``RuntimeError`` after fork.

        Kernel: ``NETLINK_NO_ENOBUFS``; netlink(7).
        """
    @no_enobufs.setter
    def no_enobufs(self, no_enobufs: bool) -> None: ...
    @property
    def closed(self) -> bool:
        """Whether the handle is closed. A bool."""
    def bind_pf(self, family: SupportsIndex, /) -> None:
        """Bind the handle to a protocol family (``AF_INET``, ``AF_INET6``; 0 to 255).

        Kernels since 3.8 need no such binding and answer every request alike. Never waits. Raises
        ``ValueError`` for a number out of range, ``ClosedError`` for a closed handle,
        ``TypeError``, ``OSError`` if the kernel refuses (``PermissionError`` without
        ``CAP_NET_ADMIN``), ``RuntimeError`` after fork.

        Kernel: ``NFQNL_CFG_CMD_PF_BIND``; nfq_bind_pf(3).
        """
    def unbind_pf(self, family: SupportsIndex, /) -> None:
        """Unbind the handle from a protocol family (``AF_INET``, ``AF_INET6``; 0 to 255).

        As ``bind_pf`` in everything else.

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
    ) -> NetfilterQueueQueueHandle:
        """Bind a queue number, 0 to 65535, and return its ``NetfilterQueueQueueHandle``.

        ``callback`` is called with each packet, a ``NetfilterQueueData``, by ``handle_packet()`` or
        ``process()``. What it returns is ignored, except for an awaitable: the dispatch closes it
        and raises ``TypeError``, as if the callback had raised that. ``mode`` and ``range`` are
        ``set_mode``'s. The default is ``NFQNL_COPY_PACKET``, the whole packet. With ``None`` or
        ``NFQNL_COPY_NONE`` the kernel drops all packets until ``set_mode`` is called. ``maxlen`` is
        ``set_maxlen``'s, and ``flags`` are the ``QueueFlag`` bits to set. All of it is configured
        together with the binding. ``default_verdict`` is for packets that nobody gives a verdict:
        ``NF_DROP``.

        ``rcvbuf`` is about the socket's receive buffer, which all queues of the handle
        share. ``None`` lets it grow, so that maxlen packets of 1500 bytes (1024 packets if
        maxlen is ``None``) have room beside those of the other queues. It grows up to 64
        MiB, as far as the system allows, and never shrinks. It stays as it is if
        somebody has set it, here or by the attribute rcvbuf. A number of bytes, up to
        ``2**31-1``, is set as that attribute sets it. 0 leaves the buffer alone.

        May be called at any time from any thread, also from a callback; it neither
        waits nor calls callbacks. Raises ``ValueError`` for a value out of range,
        ``ClosedError`` for a closed handle, ``TypeError`` for a wrong type, a coroutine function
        and a generator function, ``RuntimeError`` after fork, and ``OSError`` if the kernel
        refuses: ``PermissionError`` without ``CAP_NET_ADMIN`` and for a number that another
        program has bound, ``EBUSY`` for one that is bound on this handle, ``EOPNOTSUPP`` or
        ``EINVAL`` for a flag that it does not know; nothing stays bound then.

        Kernel: ``NFQNL_CFG_CMD_BIND``; nfq_create_queue(3).
        """
    def handle_packet(self, buffer: ReadableBuffer, /) -> int:
        """Dispatch what a loop of your own received, and return the number of packets.

        ``buffer`` is any C-contiguous object with the buffer protocol that holds one or
        more netlink messages. The callbacks' packets look into it without a copy; it is
        held while payload views of it live. What was set aside by a configuration call
        is dispatched first. A packet whose message was cut by a short buffer is
        dispatched with truncated set. The verdicts are sent before the call returns.

        Never reads the descriptor and never waits. May be called from any thread, and from a
        callback. Raises ``MalformedMessageError`` for bytes that are no valid netlink message,
        after what stands before them was dispatched; the first exception of a callback, after the
        rest was dispatched, or at once if it is no ``Exception`` (then the rest is set aside for
        the next dispatch); ``ClosedError`` for a closed handle; ``TypeError``, ``BufferError``;
        ``OSError`` if verdicts can't be sent; ``RuntimeError`` after fork. See
        nfq_handle_packet(3).
        """
    def process(
        self, max_packets: SupportsIndex = 64, timeout: _Float | SupportsIndex | None = 0
    ) -> int:
        """Receive and dispatch what waits, and return the number of packets.

        ``max_packets`` is the most to dispatch, at least 1. ``timeout`` is how long to wait for
        the first one, in seconds: 0 does not wait, ``None`` waits for ever. The verdicts are
        sent together before the call returns, and earlier when callbacks are slow.

        Messages that the kernel lost (``ENOBUFS``) are counted in ``HandleStats.overruns`` and
        the reading goes on. Waiting releases the GIL; signal handlers run, and what they
        raise ends it. May be called from any thread, and from a callback.

        If a callback closes the handle, the packets that were dispatched until then are
        returned. Raises the first exception of a callback, after the rest of the batch was
        dispatched; ``ValueError`` for a number out of range, ``ClosedError`` for a closed handle,
        also if it is closed while this call waits; ``TypeError``; ``OSError`` if receiving or
        sending fails; ``RuntimeError`` after fork.
        """
    def fd(self) -> int:
        """The netlink socket's descriptor, blocking unless it was adopted otherwise.

        It is closed with the handle, and in children of fork: a program that is
        started gets a copy, by ``os.dup()``. Raises ``ClosedError`` for a closed handle,
        ``RuntimeError`` after fork. See nfq_fd(3).
        """
    def fileno(self) -> int:
        """The same as ``fd()``, so that the handle can be given to select and selectors."""
    def flush(self) -> None:
        """Send the verdicts that are held back (see autoflush); nothing if there are none.

        Never waits. May be called from any thread, and from a callback. Raises ``ClosedError``
        for a closed handle, ``OSError`` if they can't be sent, ``RuntimeError`` after fork.
        """
    def stats(self) -> HandleStats:
        """The counters since open, as a ``HandleStats``. Also of a closed handle.

        Raises ``RuntimeError`` after fork.
        """
    def close(self) -> None:
        """Destroy the queues and close the descriptor; does nothing if that has been done.

        Whoever waits in ``process()`` is woken, and gets a ``ClosedError``. A child of fork has its
        parent's handles closed already. Never waits; may be called from any thread and from
        a callback. Raises nothing of its own: only what an adapter's or ``on_verdict_error``'s
        call raises that is no ``Exception``, once the handle is closed. See nfq_close(3).
        """
    def __enter__(self) -> NetfilterQueueHandle:
        """Return the handle itself. Raises ``ClosedError`` if it is closed."""
    def __exit__(self, *exception: object) -> None:
        """Call ``close()``."""

@final
class NetfilterQueueQueueHandle:
    """One bound queue number; made by ``NetfilterQueueHandle.create_queue``.

    A context manager that destroys it. May be used from any thread.
    """
    @property
    def callback(self) -> Callable[[NetfilterQueueData], None]:
        """What is called with each packet: a callable. A new one is called from the next packet on.

        May be used from any thread, and from a callback. Raises ``ClosedError`` for a destroyed
        queue, ``RuntimeError`` after fork; setting it raises ``TypeError`` for what
        ``create_queue`` does not take.
        """
    @callback.setter
    def callback(self, function: Callable[[NetfilterQueueData], None]) -> None: ...
    @property
    def default_verdict(self) -> Verdict | int:
        """The ``Verdict`` of packets that nobody gives one: ``NF_DROP`` unless set.

        Takes what ``set_verdict`` takes; ``ValueError`` for another number, ``ClosedError`` for a
        destroyed queue, ``TypeError``, ``RuntimeError`` after fork.
        """
    @default_verdict.setter
    def default_verdict(self, verdict: SupportsIndex) -> None: ...
    @property
    def number(self) -> int:
        """The queue's number, an int from 0 to 65535."""
    @property
    def handle(self) -> NetfilterQueueHandle:
        """The ``NetfilterQueueHandle`` that it is bound on, or was."""
    @property
    def destroyed(self) -> bool:
        """Whether it is destroyed, by itself or with its handle. A bool."""
    def set_mode(self, mode: SupportsIndex, range: SupportsIndex) -> None:
        """Set how much of each packet the kernel copies to user space.

        ``mode`` is a ``CopyMode``: ``NFQNL_COPY_NONE`` (nothing is queued, packets are dropped),
        ``NFQNL_COPY_META`` (attributes only) or ``NFQNL_COPY_PACKET`` (the payload too). ``range``
        is the number of payload bytes to copy, 0 to ``2**32-1``; the kernel copies at most
        65531, and takes 0 as that.

        May be called at any time from any thread, also from a callback; it neither waits nor calls
        callbacks. Raises ``ValueError`` for a number out of range, ``ClosedError`` for a destroyed
        queue, ``TypeError``, ``OSError`` if the kernel refuses, ``RuntimeError`` after fork.

        Kernel: ``NFQA_CFG_PARAMS``; nfq_set_mode(3).
        """
    def set_flags(self, mask: SupportsIndex, flags: SupportsIndex) -> None:
        """Set or clear the queue's flags.

        ``mask`` says which ``QueueFlag`` bits to change, ``flags`` what they become; both 0 to
        ``2**32-1``. Bits of flags outside ``mask`` do nothing.

        May be called at any time from any thread, also from a callback; it neither waits nor calls
        callbacks. Raises ``ValueError`` for a number out of range, ``ClosedError`` for a destroyed
        queue, ``TypeError``, ``OSError`` (``EOPNOTSUPP``, ``EINVAL``) for a flag that the kernel
        does not know, ``RuntimeError`` after fork.

        Kernel: ``NFQA_CFG_MASK`` and ``NFQA_CFG_FLAGS``; nfq_set_queue_flags(3).
        """
    def set_maxlen(self, queuelen: SupportsIndex) -> None:
        """Set how many packets may wait in the kernel's queue, 0 to ``2**32-1``.

        The kernel starts with 1024; what comes when so many wait is dropped, or passes
        with ``NFQA_CFG_F_FAIL_OPEN``. A packet of 1500 bytes takes about 2300 bytes of the
        socket's receive buffer, which may be full before. That grows with the number as
        in ``create_queue``, unless the queue was created with another rcvbuf than ``None``.

        May be called at any time from any thread, also from a callback; it neither waits nor calls
        callbacks. Raises ``ValueError`` for a number out of range, ``ClosedError`` for a destroyed
        queue, ``TypeError``, ``OSError`` if the kernel refuses, ``RuntimeError`` after fork.

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

        ``verdict`` is a ``Verdict`` or what ``NF_QUEUE_NR`` returns. ``up_to_id`` is the id of the
        last packet that it is for, 0 to ``2**32-1``; ids are compared as signed differences, as
        they wrap. ``mark`` and ``priority`` are what the packets get too, 0 to ``2**32-1`` in host
        byte order; ``None`` leaves what they have. It is for packets that were dispatched: kept
        ones, and those whose callbacks run. They then count as executed, and a further verdict on
        them is a ``VerdictError``; packets that nobody has dispatched yet get verdicts of their
        own, but for those with such an id that another reader of the descriptor holds. It is
        executed at once (with autoflush; else at flush or the next dispatch), and does nothing if
        no such packet waits.

        Never waits; may be called from any thread, and from a callback. Raises ``ValueError`` for a
        number out of range, ``ClosedError`` for a destroyed queue, ``TypeError``, ``OSError`` if it
        can't be sent, ``RuntimeError`` after fork.

        Kernel: ``NFQNL_MSG_VERDICT_BATCH``, ``NFQA_MARK``, ``NFQA_PRIORITY``;
        nfq_set_verdict_batch2(3).
        """
    def destroy(self) -> None:
        """Unbind the queue; does nothing if that has been done.

        Verdicts that were given are executed first, those recorded by running callbacks included.
        Everything else that waits, kept or not yet read, gets the queue's ``default_verdict``; a
        verdict on such a packet is then a ``ClosedError``. Verdicts that can't be sent become the
        default too, and ``on_verdict_error`` is told.

        The number may be bound anew at once. If several loops of your own read the descriptor
        and pass what they read to ``handle_packet()``, stop them before that, or bind the number on
        another handle: a message of the old binding that one of them still holds can't be told
        from the new binding's packet of the same id once another loop has overtaken it. One
        such loop, and any number of threads in ``process()``, need no care. A packet that may be
        the old binding's is not passed to the new one's callback; if it was the new one's, it
        gets the default verdict.

        May be called at any time from any thread, also from a callback; it neither
        waits nor calls callbacks. Raises ``OSError`` if the kernel refuses (the queue
        counts as destroyed all the same), ``RuntimeError`` after fork.

        Kernel: ``NFQNL_CFG_CMD_UNBIND``; nfq_destroy_queue(3).
        """
    def __enter__(self) -> NetfilterQueueQueueHandle:
        """Return the queue itself. Raises ``ClosedError`` if it is destroyed."""
    def __exit__(self, *exception: object) -> None:
        """Call ``destroy()``."""

@final
class NetfilterQueueData:
    """One queued packet awaiting its verdict; what a queue's callback gets.

    It may be kept, and stays valid for as long as it is referenced. If nothing
    references it any more and it has no verdict, it gets its queue's default.
    May be used from any thread; nothing here waits. See nfq_get_msg_packet_hdr(3).
    """
    @property
    def id(self) -> int:
        """The packet's number in its queue, an int of 32 bits that counts from 1 and wraps.

        Kernel: ``NFQA_PACKET_HDR``.
        """
    @property
    def queue(self) -> NetfilterQueueQueueHandle:
        """The ``NetfilterQueueQueueHandle`` that has delivered it."""
    @property
    def family(self) -> int:
        """The protocol family of the hook: ``AF_INET``, ``AF_INET6`` or ``AF_BRIDGE``, an int.

        Kernel: ``nfgen_family``.
        """
    @property
    def hook(self) -> Hook:
        """The ``Hook`` that queued it. One that only newer kernels have is named by its digits.

        Kernel: ``NFQA_PACKET_HDR``.
        """
    @property
    def hw_protocol(self) -> int:
        """The EtherType, an int in host byte order (0x0800: IPv4, 0x86dd: IPv6).

        Kernel: ``NFQA_PACKET_HDR``.
        """
    @property
    def hw_addr(self) -> bytes:
        """The sender's hardware address as bytes, 6 of them for Ethernet; ``b""`` if unknown.

        Kernels know it only on the way in.

        Kernel: ``NFQA_HWADDR``.
        """
    @property
    def mark(self) -> int:
        """The netfilter mark, an int of 32 bits in host byte order; 0 if it has none.

        Kernel: ``NFQA_MARK``.
        """
    @property
    def timestamp(self) -> float | None:
        """When it arrived, a float of seconds since the epoch, to the microsecond; or ``None``.

        Kernels take the time only while some socket on the host asks for it (``SO_TIMESTAMP``).

        Kernel: ``NFQA_TIMESTAMP``.
        """
    @property
    def indev(self) -> int:
        """The index of the device that it was received by, an int; 0 if unknown.

        Kernel: ``NFQA_IFINDEX_INDEV``.
        """
    @property
    def physindev(self) -> int:
        """The index of the bridge port that it was received by, an int; 0 if unknown.

        Kernel: ``NFQA_IFINDEX_PHYSINDEV``.
        """
    @property
    def outdev(self) -> int:
        """The index of the device that it will be sent by, an int; 0 if unknown.

        Kernel: ``NFQA_IFINDEX_OUTDEV``.
        """
    @property
    def physoutdev(self) -> int:
        """The index of the bridge port that it will be sent by, an int; 0 if unknown.

        Kernel: ``NFQA_IFINDEX_PHYSOUTDEV``.
        """
    @property
    def payload(self) -> memoryview:
        """The packet from its network header on, a read-only memoryview without a copy.

        It holds the bytes, not the packet: a packet of which only views are left gets its
        queue's default verdict. Inside a callback that ``handle_packet()`` calls it looks into the
        caller's buffer.

        Kernel: ``NFQA_PAYLOAD``.
        """
    @property
    def uid(self) -> int | None:
        """The id of the user whose socket sent it, as the initial user namespace counts, an int; or
        ``None``.

        Needs ``NFQA_CFG_F_UID_GID``.

        Kernel: ``NFQA_UID``.
        """
    @property
    def gid(self) -> int | None:
        """The id of the group whose socket sent it, as the initial user namespace counts, an int;
        or ``None``.

        Needs ``NFQA_CFG_F_UID_GID``.

        Kernel: ``NFQA_GID``.
        """
    @property
    def skb_info(self) -> SkbInfo:
        """An ``SkbInfo``: checksum not ready, segmentation offload, checksum not verified.

        Kernel: ``NFQA_SKB_INFO``.
        """
    @property
    def original_length(self) -> int:
        """The packet's length in bytes before the copy range or a short buffer cut it.

        Kernel: ``NFQA_CAP_LEN``.
        """
    @property
    def truncated(self) -> bool:
        """Whether the payload is shorter than the packet, or the message was cut. A bool.

        Kernel: ``NFQA_CAP_LEN``.
        """
    @property
    def priority(self) -> int:
        """The packet's priority, an int, 0 if it has none.

        ``SO_PRIORITY`` or the CLASSIFY target set it.

        Kernel: ``NFQA_PRIORITY``, Linux 5.18.
        """
    @property
    def cgroup_classid(self) -> int:
        """The ``net_cls`` class of the sending socket's control group, an int, 0 if it has none.

        Kernel: ``NFQA_CGROUP_CLASSID``, Linux 6.4.
        """
    @property
    def secctx(self) -> bytes | None:
        """The packet's security context as bytes, or ``None``.

        Needs ``NFQA_CFG_F_SECCTX``, and a rule that sets the packet's secmark.

        Kernel: ``NFQA_SECCTX``; nfq_get_secctx(3).
        """
    @property
    def vlan(self) -> Vlan | None:
        """A ``Vlan`` (proto, tci): the VLAN tag of a packet on a bridge, or ``None``.

        Kernel: ``NFQA_VLAN``.
        """
    @property
    def l2_header(self) -> bytes | None:
        """The link-layer header of a packet on a bridge as bytes, 14 of them for Ethernet, or
        ``None``.

        Kernel: ``NFQA_L2HDR``.
        """
    @property
    def conntrack(self) -> Conntrack | None:
        """A ``Conntrack``, the packet's entry in the connection tracking table, or ``None``.

        Needs ``NFQA_CFG_F_CONNTRACK``.

        Kernel: ``NFQA_CT``.
        """
    @property
    def ct_info(self) -> int | None:
        """How the packet relates to its connection, an int (enum ``ip_conntrack_info``: 0
        established, 1 related, 2 new, 3 more in the reply direction), or ``None``.

        Needs ``NFQA_CFG_F_CONNTRACK``.

        Kernel: ``NFQA_CT_INFO``.
        """
    @property
    def verdict(self) -> Verdict | int | None:
        """The ``Verdict`` that was set or executed, or ``None``; an int for
        ``NF_QUEUE_NR(number)``.

        That the kernel refused it does not show here: see ``on_verdict_error``.
        """
    def indev_name(self) -> str | None:
        """The name of the device that the packet was received by as it is now, a str; ``None`` if
        unknown or gone.

        It is looked up in the namespace of the handle's socket; an answer is used for a
        millisecond. Never waits. Raises ``ClosedError`` for a closed handle, ``OSError`` if the
        kernel refuses, ``RuntimeError`` after fork.

        Kernel: ``NFQA_IFINDEX_INDEV``, SIOCGIFNAME (netdevice(7)).
        """
    def physindev_name(self) -> str | None:
        """The name of the bridge port that the packet was received by as it is now, a str; ``None``
        if unknown or gone.

        It is looked up in the namespace of the handle's socket; an answer is used for a
        millisecond. Never waits. Raises ``ClosedError`` for a closed handle, ``OSError`` if the
        kernel refuses, ``RuntimeError`` after fork.

        Kernel: ``NFQA_IFINDEX_PHYSINDEV``, SIOCGIFNAME (netdevice(7)).
        """
    def outdev_name(self) -> str | None:
        """The name of the device that the packet will be sent by as it is now, a str; ``None`` if
        unknown or gone.

        It is looked up in the namespace of the handle's socket; an answer is used for a
        millisecond. Never waits. Raises ``ClosedError`` for a closed handle, ``OSError`` if the
        kernel refuses, ``RuntimeError`` after fork.

        Kernel: ``NFQA_IFINDEX_OUTDEV``, SIOCGIFNAME (netdevice(7)).
        """
    def physoutdev_name(self) -> str | None:
        """The name of the bridge port that the packet will be sent by as it is now, a str; ``None``
        if unknown or gone.

        It is looked up in the namespace of the handle's socket; an answer is used for a
        millisecond. Never waits. Raises ``ClosedError`` for a closed handle, ``OSError`` if the
        kernel refuses, ``RuntimeError`` after fork.

        Kernel: ``NFQA_IFINDEX_PHYSOUTDEV``, SIOCGIFNAME (netdevice(7)).
        """
    def get_packet_hw(self) -> bytes:
        """The sender's hardware address as bytes, 6 of them for Ethernet; ``b""`` if unknown.

        Kernels know it only on the way in.

        Kernel: ``NFQA_HWADDR``; nfq_get_packet_hw(3).
        """
    def get_nfmark(self) -> int:
        """The netfilter mark as an int in host byte order; 0 if the packet has none.

        Kernel: ``NFQA_MARK``; nfq_get_nfmark(3).
        """
    def get_timestamp(self) -> tuple[int, int] | None:
        """When the packet arrived, as a tuple (seconds, microseconds) of ints since the
        epoch, or ``None``.

        Kernels take the time only while some socket on the host asks for it
        (``SO_TIMESTAMP``).

        Kernel: ``NFQA_TIMESTAMP``; nfq_get_timestamp(3).
        """
    def get_indev(self) -> int:
        """The index of the device that the packet was received by; 0 if unknown.

        Kernel: ``NFQA_IFINDEX_INDEV``; nfq_get_indev(3).
        """
    def get_physindev(self) -> int:
        """The index of the bridge port that the packet was received by; 0 if unknown.

        Kernel: ``NFQA_IFINDEX_PHYSINDEV``; nfq_get_physindev(3).
        """
    def get_outdev(self) -> int:
        """The index of the device that the packet will be sent by; 0 if unknown.

        Kernel: ``NFQA_IFINDEX_OUTDEV``; nfq_get_outdev(3).
        """
    def get_physoutdev(self) -> int:
        """The index of the bridge port that the packet will be sent by; 0 if unknown.

        Kernel: ``NFQA_IFINDEX_PHYSOUTDEV``; nfq_get_physoutdev(3).
        """
    def get_payload(self) -> bytes:
        """A copy of the packet from its network header on, as bytes; ``b""`` if there is none.

        The copy mode says how much of it there is. The payload attribute is the same
        without a copy.

        Kernel: ``NFQA_PAYLOAD``; nfq_get_payload(3).
        """
    def get_uid(self) -> int | None:
        """The id of the user whose socket sent the packet, as the initial user namespace
        counts; ``None`` if unknown.

        Needs ``NFQA_CFG_F_UID_GID``.

        Kernel: ``NFQA_UID``; nfq_get_uid(3).
        """
    def get_gid(self) -> int | None:
        """The id of the group whose socket sent the packet, as the initial user namespace
        counts; ``None`` if unknown.

        Needs ``NFQA_CFG_F_UID_GID``.

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
    ) -> None:
        """Give the packet its verdict, and change what is named; ``None`` leaves it as it is.

        ``verdict`` is a ``Verdict`` or what ``NF_QUEUE_NR`` returns. ``NF_STOLEN``, which kernels
        refuse from user space, is executed as ``NF_DROP``; plain ``NF_QUEUE`` passes the packet to
        queue 0. ``mark``, ``priority`` and ``ct_mark`` are the packet's new mark and priority
        and its connection's new mark, 0 to ``2**32-1`` in host byte order. ``payload`` is its new
        content from the network header on, a bytes-like object of 1 to 65531 bytes; bytes are sent
        without a copy, anything else is copied at the call. Checksums are the caller's: see
        ``update_checksums``. Where a kernel allows no new payload it drops the packet and reports
        nothing: Linux 7.2 does on bridges, in the network namespaces of user namespaces, and if the
        IP header names another length, or has other options or extensions than before. All kernels
        do if a packet with ``NFQA_SKB_GSO`` gets no longer than one of its segments.

        ``vlan`` is a tuple (proto, tci) of ints from 0 to 65535, and ``l2_header`` a bytes-like
        object as long as the packet's own: kernels heed both on packets of ``AF_BRIDGE``
        only. ``ct_labels`` is a bytes-like object of 1 to 16 bytes, the 128 bits of the
        connection's labels (bit n is bit n % 8 of byte n / 8 on little-endian machines);
        those that are not there are cleared. Kernels ignore ``ct_mark`` and ``ct_labels`` where
        the packet has no connection, and both, if labels are named, where no rule used
        any when the connection began.

        Inside the packet's callback the verdict is recorded and executed once the
        callback exits; the last one stands. A packet that was kept gets its verdict at
        once (with autoflush; else at flush or the next dispatch), and only once, from
        any thread. Never waits.

        Raises ``ValueError`` for a value out of range, for a payload on a packet that is truncated,
        or for one that the kernel is known to lose (``update_checksums`` says when);
        ``ClosedError`` if the queue is destroyed; ``VerdictError`` if the packet has had its
        verdict; ``TypeError``; ``OSError`` if it can't be sent; ``RuntimeError`` after fork. A
        refusal of the kernel comes later, is counted in ``HandleStats.verdict_errors`` and told to
        ``on_verdict_error``.

        Kernel: ``NFQA_VERDICT_HDR``, ``NFQA_MARK``, ``NFQA_PAYLOAD``, ``NFQA_PRIORITY``,
        ``NFQA_VLAN``, ``NFQA_L2HDR``, ``NFQA_CT``; nfq_set_verdict2(3).
        """
    def accept(
        self, mark: SupportsIndex | None = None, payload: ReadableBuffer | None = None
    ) -> None:
        """The same as ``set_verdict(NF_ACCEPT, mark, payload=payload)``: the packet goes on."""
    def drop(self) -> None:
        """The same as ``set_verdict(NF_DROP)``: the packet is thrown away."""
    def repeat(self, mark: SupportsIndex | None = None) -> None:
        """The same as ``set_verdict(NF_REPEAT, mark)``: the chain that queued it begins anew.

        Give it a mark whose packets the rule skips, or it comes back for ever.
        """
    def requeue(self, number: SupportsIndex, bypass: bool = False) -> None:
        """The same as ``set_verdict(NF_QUEUE_NR(number, bypass))``: the packet goes on to queue
        ``number``, 0 to 65535.

        With ``bypass`` it is let through when nobody listens there; without, it is
        dropped.
        """

def open(
    *,
    netns: StrOrBytesPath | FileDescriptorLike | None = None,
    fd: FileDescriptorLike | None = None,
) -> NetfilterQueueHandle:
    """Open a netlink socket to the kernel's queues; return a ``NetfilterQueueHandle``.

    ``netns`` is the path of another network namespace, or a descriptor on it, in which
    the socket is opened; the calling thread stays in its own. The handle then binds
    that namespace's queues.

    With ``fd``, the handle uses a copy of that descriptor instead: a ``NETLINK_NETFILTER``
    socket that was opened elsewhere, or one end of a datagram socket pair behind
    which a test plays the kernel. On a pair of ``SOCK_SEQPACKET`` sockets the other end
    must read all: a full pair is waited for, 2 seconds at most, rcvbuf is only told
    to it, and its end is a ``ConnectionError``. The descriptor is not inherited by child
    programs.

    Needs no capability, but for netns ``CAP_SYS_ADMIN``; binding queues does. Never
    waits. Raises ``OSError`` if the socket can't be opened, ``netns`` is no network
    namespace, or ``fd`` is no socket; ``ValueError`` for an fd of another kind, or for both;
    ``TypeError``. See nfq_open(3), setns(2).
    """

def queue_status() -> list[QueueStatus]:
    """What the kernel knows of all queues that are bound in the calling thread's network
    namespace: a list of ``QueueStatus``.

    Raises ``PermissionError`` for all but root of the user namespace in which the network
    namespace was made; if both were made at once (unshare -rn), for all but root of
    the initial one. Raises another ``OSError`` if there is no such table.

    Kernel: ``/proc/net/netfilter/nfnetlink_queue``.
    """

def NF_QUEUE_NR(number: SupportsIndex, bypass: bool = False) -> int:
    """The verdict that passes a packet on to queue ``number``, 0 to 65535; an int.

    With ``bypass``, the packet is let through when nobody listens there; without, it is
    dropped. Raises ``ValueError`` for a number out of range, ``TypeError``.

    Kernel: ``NF_QUEUE_NR``, ``NF_VERDICT_FLAG_QUEUE_BYPASS``.
    """

def update_checksums(buffer: WriteableBuffer, skb_info: SupportsIndex = 0) -> None:
    """Correct, in place, the checksums of the IPv4 or IPv6 packet that the buffer holds.

    ``buffer`` is a writable, C-contiguous bytes-like object (a bytearray, an mmap, a
    writable memoryview) that begins with the IP header, as a packet's payload does.
    ``skb_info`` is the packet's own ``skb_info``, an int of 0 to ``2**32-1``.

    Corrected are the IPv4 header's checksum and that of TCP, UDP, UDP-Lite, SCTP, ICMP
    or ICMPv6, behind IPv6 extension headers and AH too; of other protocols only the
    IPv4 header's. Where a route says so, the final destination counts. A UDP checksum
    of 0 over IPv4 (none) stays 0. A fragment gets its IPv4 header's only. What lies
    behind the packet is left alone. A TCP packet with a length of 0, as the kernel's
    own of more than 65535 bytes, ends where the buffer does.

    The packet in a tunnel's is corrected too: in IPIP, 6in4 and what else is IP in IP,
    in GRE, whose own checksum is corrected as well, and in VXLAN and GENEVE on the UDP
    ports 4789, 8472 and 6081; on all ports where ``skb_info`` has ``NFQA_SKB_CSUMNOTREADY``.
    Tunnels may be up to three deep. What is no valid packet in there stays as it is.

    Call it on every payload that replaces a packet's: the kernel takes the bytes as
    they are, and whoever receives the packet drops it if a checksum is wrong. With
    ``NFQA_CFG_F_GSO`` that goes for an unchanged copy too: where ``skb_info`` has
    ``NFQA_SKB_CSUMNOTREADY`` a checksum is not complete yet. A packet that is accepted
    without a payload needs none of this.

    With ``NFQA_CFG_F_GSO`` pass ``skb_info``. Where it has ``NFQA_SKB_GSO`` the kernel cuts the
    packet into segments on its way out. It makes TCP's checksums anew, but goes on from
    what is in a UDP header (QUIC and others with ``UDP_SEGMENT``; tunnels): that becomes the
    sum of the pseudo header. Linux 6.1 loses such UDP packets on most devices all the
    same, 6.12 does not. In INPUT, and in PREROUTING if the packet is for this host,
    nothing is cut: pass ``skb_info & ~NFQA_SKB_GSO`` there. UDP packets that have it then
    reach sockets with ``UDP_GRO``, and no others. Without ``NFQA_CFG_F_GSO`` none of this matters.

    Never waits. May be called from any thread. Raises ``ValueError`` for a packet that is
    cut short, whose lengths contradict each other, or that is no IP, where the checksum
    that is not ready is in a tunnel of another kind, and for SCTP with ``NFQA_SKB_GSO``, which
    only kernels before 6.12 deliver and can't cut; it then has written nothing. Raises
    ``TypeError`` for a buffer of another kind. Sums: RFC 1071; SCTP's: RFC 9260.
    """
