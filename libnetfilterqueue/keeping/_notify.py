# SPDX-License-Identifier: GPL-2.0-or-later
"""Speaks to whoever started this process, by the protocol of sd_notify(3)."""

import os
import select
import socket
from array import array

PATIENCE = 5.0  # seconds for an answer


def is_heard() -> bool:
    """Whether there is somebody to speak to who can be passed descriptors."""
    return os.environ.get("NOTIFY_SOCKET", "")[:1] in ("/", "@")


def notify(*assignments: str, descriptors: tuple[int, ...] = ()) -> bool:
    """Sends assignments such as ``READY=1``, with descriptors; whether that worked."""
    if not is_heard():
        return False
    address = os.environ["NOTIFY_SOCKET"]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(address if address[0] == "/" else f"\0{address[1:]}")
            sock.sendmsg(["\n".join(assignments).encode()], rights if descriptors else [])
        except OSError:
            return False
    return True


def await_taken() -> bool:
    """Waits until all that was sent has been taken in; False if nobody says so.

    The other end closes the descriptor that comes with ``BARRIER=1`` (systemd 246).
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            sent = notify("BARRIER=1", descriptors=(writing,))
        finally:
            os.close(writing)
        return sent and is_hung_up(reading, PATIENCE)
    finally:
        os.close(reading)


def is_hung_up(reading: int, seconds: float) -> bool:
    """Whether nobody has the writing end of a pipe any more, at once or after a while."""
    poll = select.poll()
    poll.register(reading, select.POLLIN)  # which nothing but its end makes it; gevent's needs it
    return bool(poll.poll(seconds * 1000))
