# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that end, orderly or not, and children of fork, while packets wait: no crash, no word.

What was bound is free afterwards, and the kernel has dropped what waited; a parent's queue is as it
was. The ways are those of exiting.py.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from exiting import WAYS
from netns import TIMEOUT, private_namespace
from played_kernel import asks, error_message, messages_in, packet_message
from queues import ROUNDS

PROGRAM = str(Path(__file__).parent / "support" / "exiting.py")
PROGRAMS = 2  # at a time


def start(way: str, rounds: int) -> "subprocess.Popen[str]":
    """Starts the program in a namespace of its own."""
    # From 3.12 on Python warns of fork beside threads, and a debug build of what is left open.
    python = [sys.executable, "-W", "ignore::DeprecationWarning", "-W", "ignore::ResourceWarning"]
    command = [*python, PROGRAM, way, str(rounds)]
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    with private_namespace():
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


@pytest.mark.slow  # each starts a program
@pytest.mark.parametrize("way", WAYS)
def test_exit(way: str) -> None:
    """Children end in this way, one after the other, as they should, and print nothing."""
    programs = [start(way, ROUNDS // PROGRAMS) for _ in range(PROGRAMS)]
    for program in programs:
        output, _ = program.communicate(timeout=4 * TIMEOUT)
        assert (program.returncode, output) == (0, "")


# A daemon thread drops a packet while the pair of sockets that its verdict needs is full.
ROOM = b"room"
PAIRED = f"""
import socket, sys, threading, time
import libnetfilterqueue as nfq

class Closer:
    def __del__(self):
        self.handle.close()

pair = socket.socket(fileno=int(sys.argv[1]))
closer = Closer()
closer.handle = nfq.open(fd=pair)
kept = []
closer.handle.create_queue(1, kept.append)
closer.handle.process(timeout=None)
try:
    while True:
        pair.send({ROOM!r}, socket.MSG_DONTWAIT)
except BlockingIOError:
    pass
threading.Thread(target=kept.clear, daemon=True).start()
time.sleep(0.1)
print("ends", flush=True)
"""


def answer_next(sock: socket.socket) -> None:
    """Reads up to the next request that asks for an answer, and answers it."""
    while received := sock.recv(1 << 18):
        for request in messages_in(received) if received != ROOM else ():
            if asks(request):
                sock.send(error_message(0, request))
                return


def test_exit_beside_a_full_pair() -> None:
    """A thread that waits for room in a full pair delays the shutdown, but not for ever."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(TIMEOUT)
    with ours:
        with theirs:
            program = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-c", PAIRED, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        with program:
            try:
                answer_next(ours)
                ours.send(packet_message())
                assert program.stdout is not None
                assert program.stdout.readline() == "ends\n"
                time.sleep(0.1)  # its interpreter shuts down
                answer_next(ours)
                output, _ = program.communicate(timeout=TIMEOUT)
            finally:
                program.kill()
    assert (program.returncode, output) == (0, "")
