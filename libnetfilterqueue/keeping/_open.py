# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens handles whose sockets outlive the process."""

import contextlib
import os
import socket
import stat
import threading
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_type
from libnetfilterqueue._ext import _keep
from libnetfilterqueue.keeping import _store
from libnetfilterqueue.keeping._ledger import Ledger
from libnetfilterqueue.keeping._notify import await_taken

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike, StrOrBytesPath


class Kept:
    """A name's socket and ledger. This process has copies of its own of both."""

    DESCRIPTORS = 2

    def __init__(self, sock: int, ledger: int) -> None:
        self.sock = sock
        self.ledger = ledger

    @classmethod
    def sort(cls, descriptors: list[int]) -> Self | None:
        """Tells which is which. The ledger may be missing; None if the socket is.

        There may be several of each, if one could not be dropped: the socket is the one that has
        queues, and the others are closed.
        """
        sockets = [fd for fd in descriptors if stat.S_ISSOCK(os.fstat(fd).st_mode)]
        ledgers = [fd for fd in descriptors if fd not in sockets]
        if len(sockets) > 1:
            sockets.sort(key=_has_queues, reverse=True)
        surplus = sockets[1:] + ledgers[1 if sockets else 0 :]
        for descriptor in surplus:
            os.close(descriptor)
        if not sockets:
            return None
        return cls(sockets[0], ledgers[0] if ledgers else Ledger.create())

    def close(self) -> None:
        """Closes the copies."""
        os.close(self.sock)
        os.close(self.ledger)


def _has_queues(sock: int) -> bool:
    """Whether queues are bound on a socket, as far as the kernel says so."""
    with contextlib.suppress(OSError), nfq.open(fd=sock) as handle:
        return bool(handle.unclaimed())
    return False


class Name:
    """A name that is open. Only its handle holds this, until it is closed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self) -> None:
        """The queues are unbound for good."""
        with _lock:
            if self._name in _kept:
                _kept.pop(self._name).close()
                _store.forget(self._name)


_kept: dict[str, Kept] = {}
_open: WeakValueDictionary[str, Name] = WeakValueDictionary()  # while their handles are
_lock = threading.RLock()  # a signal handler may unbind


def _leave_to_parent() -> None:
    """In a child of fork: it is to keep nothing alive, and its parent's threads are not there."""
    global _lock  # noqa: PLW0603 (a thread of the parent may have it)
    for kept in _kept.values():
        kept.close()
    _kept.clear()
    _open.clear()
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_leave_to_parent)


def open(
    name: str = "nfqueue",
    *,
    netns: "StrOrBytesPath | FileDescriptorLike | None" = None,
) -> nfq.NetfilterQueueHandle:
    """Open a handle as ``libnetfilterqueue.open()`` does, on a socket that outlives the process.

    Args:
        name: The descriptor's name: 1 to 255 printable ASCII characters without ``:``.
        netns: The network namespace in which a new socket is opened, as in ``open()``.

    If the process was passed a descriptor under that name (``LISTEN_FDS``, ``LISTEN_FDNAMES``), it
    is adopted, and its queues are there to be taken over by ``create_queue``. Otherwise a new
    socket is opened, and a copy of its descriptor is handed over (``FDSTORE=1``).

    ``kept`` of the handle says whether somebody keeps the copy. systemd does so if the unit's
    ``FileDescriptorStoreMax=`` has room for two descriptors of each name, and one more. ``kept`` is
    ``None`` if it can't be found out: systemd before 246 does not say so. Then ``no_enobufs`` is
    set, since such a systemd drops the copy after an overrun. Closing the handle leaves the queues
    bound, and packets without a verdict wait for the next process. ``close(unbind=True)`` unbinds
    them, and the copy is dropped.

    After three take-overs whose readers were given packets, and ended without a verdict, packets
    that they have left unanswered are not repeated any more (``NF_REPEAT``). They get the queue's
    default verdict: one of them may be what ends the readers.

    Any thread may call it. It waits for an answer of whoever started the process, usually for less
    than a millisecond and for 5 seconds at most. systemd before 254 does not say how much it
    stores: there the first process waits for one more second. Raises ``ValueError`` for a bad name
    and for one that is open in this process, ``TypeError``, and ``OSError`` for descriptors that
    were passed to another process, and as ``libnetfilterqueue.open()`` does. See sd_listen_fds(3)
    and sd_pid_notify_with_fds(3).

    >>> with keeping.open() as handle:
    ...     handle.kept
    False
    """
    check_type(isinstance(name, str), "keeping.open(): name must be a str", name)
    if not (0 < len(name) <= 255 and name.isascii() and name.isprintable() and ":" not in name):
        raise ValueError(
            f"keeping.open(): name must be 1 to 255 printable ASCII characters without ':', "
            f"not {name!r:.100}"
        )
    with _lock:
        if name in _open:
            raise ValueError(f"keeping.open(): {name!r} is open in this process")
        if name not in _kept and (passed := _store.inherited(name)):
            _inherit(name, passed)
        return _adopt(name) if name in _kept else _open_new(name, netns)


def _inherit(name: str, passed: list[int]) -> None:
    """Notes what this process was passed."""
    kept = Kept.sort(passed)
    if kept is None:  # systemd before 246 drops sockets after an overrun, and no ledgers
        _store.forget(name)
    else:
        _kept[name] = kept


def _open_new(
    name: str, netns: "StrOrBytesPath | FileDescriptorLike | None"
) -> nfq.NetfilterQueueHandle:
    """Opens a handle on a new socket, which is handed over."""
    handle = nfq.open(netns=netns)
    kept = Kept(os.dup(handle.fd()), Ledger.create())
    state: bool | None = False
    try:
        stored = kept.DESCRIPTORS * (len(_kept) + 1)
        state = _store.store(name, kept.sock, kept.ledger) and _store.probe(stored)
        _note(name, handle, kept, state, tired=False)
    except BaseException:  # of a signal handler, perhaps
        state = False
        handle.close()
        raise
    finally:
        if state is False:  # one of the two may be stored
            _store.forget(name)
            kept.close()
        else:
            _kept[name] = kept
    return handle


def _adopt(name: str) -> nfq.NetfilterQueueHandle:
    """Opens a handle on the socket that is kept."""
    kept = _kept[name]
    handle = nfq.open(fd=kept.sock)
    tired = Ledger(kept.ledger).note_takeover()
    # Who has passed it on, still has it.
    _note(name, handle, kept, await_taken() or None, tired=tired)
    return handle


def _note(
    name: str,
    handle: nfq.NetfilterQueueHandle,
    kept: Kept,
    state: bool | None,
    *,
    tired: bool,
) -> None:
    """Tells the handle whether its socket is kept."""
    if state is None and _is_netlink(handle):
        handle.no_enobufs = True
    _open[name] = held = Name(name)
    _keep(handle, state, tired, Ledger(kept.ledger).memory, held)


def _is_netlink(handle: nfq.NetfilterQueueHandle) -> bool:
    with socket.socket(fileno=os.dup(handle.fd())) as sock:
        return sock.family == socket.AF_NETLINK
