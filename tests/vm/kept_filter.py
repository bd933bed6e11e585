# SPDX-License-Identifier: GPL-2.0-or-later
"""A service whose queue outlives it, with the faults that a test asks for.

    kept_filter.py DIRECTORY

writes what it does to the file `log` there. A file of the name of a fault there asks for it: `fail`
to end at the start, `hang` in the callback, both once; `hold` to leave packets unanswered.
"""

import os
import signal
import socket
import sys
from pathlib import Path

import libnetfilterqueue as nfq
from libnetfilterqueue import keeping

directory = Path(sys.argv[1])
held: list[nfq.NetfilterQueueData] = []


def is_asked_for(fault: str) -> bool:
    return (directory / fault).exists()


def take(fault: str) -> bool:
    """Whether it is asked for, and has not been had."""
    asked = is_asked_for(fault)
    (directory / fault).unlink(missing_ok=True)
    return asked


def note(*words: object) -> None:
    with (directory / "log").open("a") as log:
        print(*words, file=log)


def notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), address)


def callback(packet: nfq.NetfilterQueueData) -> None:
    if take("hang"):
        note("hangs")
        signal.pause()
    if is_asked_for("hold"):
        held.append(packet)
        note("holds")
    else:
        packet.accept()


def main() -> None:
    if take("fail"):
        note("fails")
        sys.exit(3)
    with keeping.open() as handle:
        handle.create_queue(1, callback, unanswered=nfq.NF_REPEAT)
        note("kept", handle.kept)
        notify("READY=1")
        while True:
            handle.process(timeout=0.5)
            notify("WATCHDOG=1")


main()
