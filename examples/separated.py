# SPDX-License-Identifier: GPL-2.0-or-later
r"""Decide without privileges: one process has the capability, another one reads the packets.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    setpriv --reuid nobody --regid nogroup --clear-groups \
        --inh-caps +net_admin --ambient-caps +net_admin python separated.py [QUEUE]

This process has the netlink socket and passes on what comes, in both directions; of what the other
one sends only verdicts and settings of that queue, or it ends both. It reads no packet. The other
one has one end of a socket pair for its handle, and no capability: who takes it over by a packet
decides on that queue's packets, and reaches nothing else of the network. Costs two more copies and
system calls a packet. Doesn't run as root, who gets capabilities with each program. Ends with
Ctrl-C or SIGTERM.
"""

import contextlib
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import libnetfilterqueue as nfq

NETLINK_NETFILTER = 12
NLMSG_NOOP = 1
QUEUE_MESSAGES = {0x301, 0x302, 0x303}  # NFQNL_MSG_VERDICT, _CONFIG, _VERDICT_BATCH
HEADER = 16
QUEUE_HEADER = HEADER + 4  # family, version, and the queue's number
LARGEST = 1 << 17

WITHOUT_CAPABILITIES = "setpriv --pdeathsig KILL --no-new-privs --inh-caps=-all --ambient-caps=-all"


def is_about(queue: int, datagram: bytes) -> bool:
    """Return whether netlink messages are that queue's verdicts and settings, and nothing else."""
    while datagram:
        if len(datagram) < HEADER:
            return False
        length, kind = struct.unpack_from("=IH", datagram)
        if not HEADER <= length <= len(datagram):
            return False
        if kind != NLMSG_NOOP:  # the kernel only acknowledges it
            if kind not in QUEUE_MESSAGES or length < QUEUE_HEADER:
                return False
            if struct.unpack_from("!H", datagram, HEADER + 2) != (queue,):
                return False
        datagram = datagram[length + -length % 4 :]
    return True


def pass_packets(kernel: socket.socket, decider: socket.socket) -> None:
    """Pass on what the kernel sends, for ever."""
    while True:
        with contextlib.suppress(OSError):  # ENOBUFS: packets were lost, and the next ones follow
            data, address = kernel.recvfrom(LARGEST)
            if address == (0, 0):
                decider.send(data)


def pass_verdicts(queue: int, kernel: socket.socket, decider: socket.socket) -> None:
    """Pass on what the other process sends, until that is something else."""
    while is_about(queue, data := decider.recv(LARGEST)):
        kernel.send(data)
    print("Not about the queue", flush=True)


def relay(queue: int) -> None:
    """Start the process that decides, and pass on until it ends."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    descriptor = theirs.fileno()
    command = [*WITHOUT_CAPABILITIES.split(), sys.executable, __file__, str(queue), str(descriptor)]
    process = subprocess.Popen(command, pass_fds=[descriptor])
    theirs.close()

    def back() -> None:
        try:
            pass_verdicts(queue, kernel, ours)
        finally:
            process.kill()

    for target, arguments in ((pass_packets, (kernel, ours)), (back, ())):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: process.terminate())
    sys.exit(process.wait())


def callback(packet: nfq.NetfilterQueueData) -> None:
    """Decide on a packet."""
    if b"forbidden" in packet.get_payload():
        print("Dropped", flush=True)
        packet.drop()
    else:
        packet.accept()


def decide(queue: int, descriptor: int) -> None:
    """Decide on packets that come by the descriptor, until interrupted."""
    if "CapPrm:\t0000000000000000" not in Path("/proc/self/status").read_text():
        sys.exit(
            "The process that decides has capabilities: start this as a user without any other"
        )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process has it, too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), nfq.open(fd=descriptor) as handle:
        handle.create_queue(queue, callback)
        print(f"Queue {queue} is bound", flush=True)
        while True:
            handle.process(timeout=None)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]] or [1]
    if len(numbers) == 1:
        relay(*numbers)
    else:
        decide(*numbers)
