# SPDX-License-Identifier: GPL-2.0-or-later
"""The names and the behaviour of NetfilterQueue 1.1, with these differences.

- A packet that nobody can answer any more is dropped. There, it waits for ever.
- Packets are copied whole. There, at most 4016 bytes are. If ``range`` has cut a packet, a new
  payload for it is a ``ValueError``. There, the packet loses what was cut.
- A number out of range is a ``ValueError``, and a verdict that can't be sent an ``OSError``.
- A packet of a queue that was unbound can't be answered, also if the number is bound again. In a
  child of ``fork`` the queue can't be used.

Only ``run()`` and ``run_socket()`` wait. Any thread may call everything.
"""

import os
import socket
import warnings
from collections import deque
from collections.abc import Callable
from errno import EBADF, ENOBUFS
from typing import Self

import libnetfilterqueue as nfq
from libnetfilterqueue.compat.number import Number
from libnetfilterqueue.compat.protocols import PROTOCOLS

__all__ = ["COPY_META", "COPY_NONE", "COPY_PACKET", "PROTOCOLS", "NetfilterQueue", "Packet"]

COPY_NONE, COPY_META, COPY_PACKET = 0, 1, 2
VERSION, __version__ = (1, 1, 0), "1.1.0"  # of what has these names


class Packet:
    """A packet that waits for its verdict. Its attributes are ints, as the kernel has sent them."""

    __slots__ = ("_contents", "_data", "_mark", "_payload", "_queue", "_retained")
    id: Number = Number()
    hook: Number = Number()
    hw_protocol: Number = Number()
    mark: Number = Number()
    indev: Number = Number()
    outdev: Number = Number()
    physindev: Number = Number()
    physoutdev: Number = Number()

    def __init__(self, queue: "NetfilterQueue", data: nfq.Packet) -> None:
        self._queue, self._data = queue, data  # the queue stays open as long as its packets
        self._contents, self._retained, self._payload = data.get_payload(), b"", b""
        self._mark: int | None = None

    def get_hw(self) -> bytes | None:
        """The sender's hardware address, padded with zeros to 8 bytes, or ``None``."""
        return self._data.hw_addr.ljust(8, b"\0") if self._data.hw_addr else None

    def get_timestamp(self) -> float:
        """When the packet arrived, in seconds since the epoch; 0.0 if unknown."""
        return self._data.timestamp or 0.0

    def get_mark(self) -> int:
        """The mark that was set, or else the one that the packet came with."""
        return self.mark if self._mark is None else self._mark

    def set_mark(self, mark: int) -> None:
        """Sets the mark that the packet gets with its verdict. ``OverflowError`` past 32 bits."""
        self._mark = int.from_bytes(int(mark).to_bytes(4))

    def get_payload_len(self) -> int:
        """How many bytes the kernel has copied; 0 with ``COPY_META``."""
        return len(self._data.payload)

    def get_payload(self) -> bytes:
        """What was set, or else the packet; ``RuntimeError`` if there is none, or none any more."""
        if payload := self._payload or self._contents:
            return payload
        if self.get_payload_len():
            raise RuntimeError("Payload data is no longer available: the callback has to retain()")
        raise RuntimeError("Packet has no payload: the queue's mode does not copy it")

    def set_payload(self, payload: bytes) -> None:
        """Sets the payload that the packet gets with its verdict. Checksums are not corrected."""
        self._payload = bytes(memoryview(payload))

    def retain(self) -> None:
        """Keeps what ``get_payload()`` returns for after the callback. Raises what that raises."""
        self._retained = self.get_payload()

    def accept(self) -> None:
        """Lets the packet pass at once. ``RuntimeError`` after a verdict, or after ``unbind()``."""
        self._answer(nfq.NF_ACCEPT, self._payload)

    def drop(self) -> None:
        """Throws the packet away. Raises what ``accept()`` raises."""
        self._answer(nfq.NF_DROP)

    def repeat(self) -> None:
        """Has the packet go through its chain again. Raises what ``accept()`` raises."""
        self._answer(nfq.NF_REPEAT, self._payload)

    def _answer(self, verdict: nfq.Verdict, payload: bytes = b"") -> None:
        try:
            self._data.set_verdict(verdict, self._mark, payload=payload or None)
        except nfq.VerdictError as error:
            raise RuntimeError("Verdict already given for this packet") from error
        except nfq.ClosedError as error:
            raise RuntimeError("Parent queue has already been unbound") from error

    def __str__(self) -> str:
        if not self._contents:
            return f"{self.get_payload_len()} byte packet, contents unretained"
        place = 6 if self._contents[0] >> 4 == 6 else 9  # in the header of IPv6, or of IPv4
        number = next(iter(self._contents[place:]), -1)
        return f"{PROTOCOLS.get(number, 'Unknown protocol')} packet, {self.get_payload_len()} bytes"


class NetfilterQueue:
    """A queue on a netlink socket."""

    _handle: nfq.Handle
    _queue: nfq.Queue | None = None
    _arrived: deque[nfq.Packet]

    def __new__(cls, *, af: int = socket.AF_INET, sockfd: int = -1) -> Self:
        """Opens a socket, or takes a copy of ``sockfd``; ``OSError`` if it can't be used."""
        self = super().__new__(cls)  # before the handle: garbage is finalized in this order
        try:
            self._handle = nfq.open(fd=sockfd if sockfd >= 0 else None)
            self._handle.bind_pf(af)
        except OSError as e:
            what = "dup2 failed" if e.errno == EBADF else "Failed to open NFQueue"
            raise OSError(e.errno, f"{what}: {e.strerror}") from e
        self._arrived = deque()
        return self

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._handle.close()

    def bind(  # noqa: PLR0917 (those of NetfilterQueue)
        self,
        queue_num: int,
        user_callback: Callable[[Packet], object],
        max_len: int = 1024,
        mode: int = COPY_PACKET,
        range: int = 65535,
        sock_len: int = 2455552,
    ) -> None:
        """Binds a number; ``RuntimeError`` if one is bound, ``OSError`` if the kernel refuses."""
        if self._queue is not None:
            raise RuntimeError("A queue is already bound: unbind() it first")
        self._handle.rcvbuf = sock_len
        if (size := self._handle.rcvbuf) != 2 * sock_len:
            warnings.warn(f"The rcvbuf limit is {size} bytes", RuntimeWarning, stacklevel=2)
        self._callback = user_callback
        try:
            self._queue = self._handle.create_queue(
                queue_num, self._arrived.append, mode=mode, range=range, maxlen=max_len, rcvbuf=0
            )
        except OSError as e:
            raise OSError(e.errno, f"Failed to create queue {queue_num}: {e.strerror}") from e

    def unbind(self) -> None:
        """Unbinds the number, if one is bound. Packets without a verdict are dropped."""
        queue, self._queue, self._arrived = self._queue, None, deque()
        self._callback = Packet.drop
        if queue is not None:
            queue.destroy()

    def get_fd(self) -> int:
        """The socket's descriptor. Call ``run(block=False)`` when it is readable."""
        return self._handle.fd()

    def run(self, block: bool = True) -> None:
        """Calls the callback with each packet, until it raises or, without blocking, none waits."""
        timeout = None if block and os.get_blocking(self.get_fd()) else 0
        self._deliver()
        while self._handle.process(1, timeout) or timeout is None:
            self._deliver()

    def run_socket(self, s: socket.socket) -> None:
        """The same by ``s.recv()``. If ``s`` has a timeout, that is raised as ``TimeoutError``."""
        while True:
            self._deliver()
            try:
                self._handle.handle_packet(s.recv(66000))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != ENOBUFS:  # the kernel has lost packets
                    raise

    def _deliver(self) -> None:
        """Calls the callback, outside of the engine's, at whose end a verdict would be executed."""
        while self._arrived:
            try:
                packet = Packet(self, self._arrived.popleft())
            except IndexError:  # another thread has it
                return
            try:
                self._callback(packet)
            finally:
                packet._contents = packet._retained
