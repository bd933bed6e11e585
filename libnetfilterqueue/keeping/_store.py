# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptor store of whoever started this process: systemd's, or that of `keep`."""

import os

from libnetfilterqueue.keeping._notify import await_taken, is_hung_up, notify

FIRST = 3  # SD_LISTEN_FDS_START
PROBE = "libnetfilterqueue-probe"
GRACE = 1.0  # seconds in which a descriptor that is not stored is closed

_taken: set[str] = set()  # their numbers may be those of other files by now


def inherited(name: str) -> list[int]:
    """The descriptors that were passed to this process under that name, once.

    Raises OSError if they were passed to another process.
    """
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.get("LISTEN_FDS") or 0)
    found = [FIRST + at for at, passed in enumerate(names[:count]) if passed == name]
    pid = os.environ.get("LISTEN_PID", "")
    if found and pid != str(os.getpid()):
        raise OSError(
            f"keeping.open(): the descriptor {name!r} was passed to process {pid} (LISTEN_PID), "
            f"and this is process {os.getpid()}: open it there, or start this program by exec"
        )
    if name in _taken:
        return []
    _taken.add(name)
    for descriptor in found:
        os.set_inheritable(descriptor, False)
    return found


def store(name: str, *descriptors: int) -> bool:
    """Hands copies of descriptors over, to be passed to the next process; whether they were sent.

    They are sent at once, and so stored together or not at all, whenever this process ends.
    """
    return notify("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptors=descriptors)


def forget(name: str) -> None:
    """Has the copies under that name closed."""
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")


def probe(stored: int) -> bool | None:
    """Whether descriptors are stored; None if nobody says so, as systemd before 246.

    A pipe's end is handed over. If it is not stored, it is closed. This process has stored as many
    descriptors already.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            # It is polled: if this process is killed now, the pipe's end does not stay there.
            sent = notify("FDSTORE=1", f"FDNAME={PROBE}", descriptors=(writing,))
        finally:
            os.close(writing)
        if not sent:
            return False
        if not await_taken():
            return None
        kept = not is_hung_up(reading, 0 if _has_room(stored) else GRACE)
    finally:
        forget(PROBE)
        os.close(reading)
    await_taken()  # what a process sends that ends at once may be thrown away
    return kept


def _has_room(stored: int) -> bool:
    """Whether systemd says that it stores one more from this process, as it does from 254 on.

    Otherwise it may be one that stores nothing, and closes descriptors after it has answered.
    """
    before = int(os.environ.get("LISTEN_FDS") or 0) + stored
    room = int(os.environ.get("FDSTORE") or 0)
    return before < room and os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
