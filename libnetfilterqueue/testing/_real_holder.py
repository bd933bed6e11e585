# SPDX-License-Identifier: GPL-2.0-or-later
"""The program that holds a namespace of a test's own, and opens sockets in it.

    python _real_holder.py DESCRIPTOR

A process with threads can't enter a user namespace, so this one does, and hands over sockets. The
kernel lets whoever has made a user namespace use them: the capabilities in it are that user's.
"""

import ctypes
import os
import signal
import socket
import struct
import sys

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
REQUEST = struct.Struct("=iii")  # family, type and protocol of a socket
ANSWER = struct.Struct("=i")  # an errno, or 0, and then there is a descriptor


def unshare(flags: int) -> int:
    """Returns an errno, or 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.unshare(flags) else 0


def isolate() -> int:
    """A network namespace; without privileges, in a user namespace of its own."""
    return unshare(CLONE_NEWNET) and unshare(CLONE_NEWUSER | CLONE_NEWNET)


def open_socket(channel: socket.socket, request: bytes) -> None:
    """Opens a socket, and hands it over."""
    try:
        opened = socket.socket(*REQUEST.unpack(request))
    except OSError as error:
        channel.send(ANSWER.pack(error.errno))
        return
    with opened:
        socket.send_fds(channel, [ANSWER.pack(0)], [opened.fileno()])


def main() -> None:
    """Serves until the other end is closed, or says nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the test's
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        error = isolate()
        channel.send(ANSWER.pack(error))
        while not error and (request := channel.recv(REQUEST.size)):
            open_socket(channel, request)


if __name__ == "__main__":
    main()
    os._exit(0)
