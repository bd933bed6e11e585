# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptor store of whoever started this process: systemd's, or that of `keep`."""

import os

from libnetfilterqueue.keeping._notify import await_taken, is_hung_up, notify

FIRST = 3  # SD_LISTEN_FDS_START
PROBE = "libnetfilterqueue-probe"


def inherited(name: str) -> list[int]:
    """The descriptors that were passed to this process under that name.

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
    for descriptor in found:
        os.set_inheritable(descriptor, False)
    return found


def store(name: str, descriptor: int) -> bool:
    """Hands a copy of a descriptor over, to be passed to the next process; whether it was sent."""
    return notify("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptors=(descriptor,))


def forget(name: str) -> None:
    """Has the copies under that name closed."""
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")


def probe() -> bool | None:
    """Whether descriptors are stored; None if nobody says so, as systemd before 246.

    A pipe's end is handed over. If it is not stored, it is closed.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            sent = store(PROBE, writing)
        finally:
            os.close(writing)
        if not sent:
            return False
        if not await_taken():
            return None
        return not is_hung_up(reading, 0)
    finally:
        forget(PROBE)
        os.close(reading)
