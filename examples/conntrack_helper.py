# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection tracking helper in user space, for a protocol whose servers announce connections.

    iptables -t raw -A PREROUTING -p tcp --dport 2100 -j CT --helper pigeon
    iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    iptables -A INPUT -p tcp --dport 2100 -j ACCEPT
    iptables -A INPUT -j DROP
    apt install libnetfilter-cthelper0
    python conntrack_helper.py [QUEUE [NAME]]

In this protocol a client connects to port 2100, and the server answers with a line, "PORT 7001".
The client may then connect to that port, once. The program registers the helper: start it before
the first rule is added. The kernel itself sends the packets of the helper's connections to the
queue. Ends with Ctrl-C or SIGTERM, and then the port needs no helper. If it is killed, new
connections to the port do not get through until it runs again: kernels do not confirm connections
whose queue nobody has bound.
"""

import ctypes
import errno
import os
import re
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import libnetfilterqueue as nfq

PORT = 2100  # where servers listen
ANNOUNCEMENT = re.compile(rb"PORT (\d{1,5})\r?\n")
TIMEOUT = 30  # seconds that an announced connection is expected
MAX = 8  # announced connections at a time

# libnetfilter_cthelper/libnetfilter_cthelper.h, and what it includes
NAME, QUEUE_NUM, L3NUM, L4NUM, PRIV_DATA_LEN, POLICY, STATUS = 0, 1, 2, 3, 4, 5, 9
POLICY_NAME, POLICY_TIMEOUT, POLICY_MAX = 0, 1, 2
NEW, DELETE = 0, 2
NETLINK_NETFILTER = 12
NLM_F_ACK, NLM_F_CREATE = 0x4, 0x400


class Helper:
    """The kernel's entry of a helper, which sends packets to a queue."""

    def __init__(self, name: str, queue: int) -> None:
        self._library = library = ctypes.CDLL("libnetfilter_cthelper.so.0")
        for function in (library.nfct_helper_alloc, library.nfct_helper_policy_alloc):
            function.restype = ctypes.c_void_p
        library.nfct_helper_nlmsg_build_hdr.restype = ctypes.c_void_p
        policy = ctypes.c_void_p(library.nfct_helper_policy_alloc())
        library.nfct_helper_policy_attr_set_str(policy, POLICY_NAME, name.encode())
        library.nfct_helper_policy_attr_set_u32(policy, POLICY_TIMEOUT, TIMEOUT)
        library.nfct_helper_policy_attr_set_u32(policy, POLICY_MAX, MAX)
        self._helper = helper = ctypes.c_void_p(library.nfct_helper_alloc())
        library.nfct_helper_attr_set_str(helper, NAME, name.encode())
        library.nfct_helper_attr_set_u16(helper, L3NUM, socket.AF_INET)
        library.nfct_helper_attr_set_u8(helper, L4NUM, socket.IPPROTO_TCP)
        library.nfct_helper_attr_set_u32(helper, QUEUE_NUM, queue)
        library.nfct_helper_attr_set_u32(helper, PRIV_DATA_LEN, 0)
        library.nfct_helper_attr_set(helper, POLICY, policy)

    def register(self, enabled: bool) -> None:
        """Make the kernel know it. One that is not enabled sends nothing to its queue."""
        self._library.nfct_helper_attr_set_u32(self._helper, STATUS, enabled)
        self._send(NEW, NLM_F_CREATE)

    def delete(self) -> None:
        """Make the kernel forget it."""
        self._send(DELETE, 0)

    def _send(self, command: int, flags: int) -> None:
        """Send the kernel a message about it; OSError if it is refused."""
        buffer = ctypes.create_string_buffer(4096)
        message = ctypes.c_void_p(
            self._library.nfct_helper_nlmsg_build_hdr(buffer, command, flags | NLM_F_ACK, 1)
        )
        self._library.nfct_helper_nlmsg_build_payload(message, self._helper)
        (size,) = struct.unpack_from("=I", buffer)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
            kernel.send(buffer.raw[:size])
            (error,) = struct.unpack_from("=i", kernel.recv(4096), 16)
        if error != 0:
            raise OSError(-error, f"the kernel refuses the helper: {os.strerror(-error)}")


@contextmanager
def registered(name: str, queue: int) -> Iterator[None]:
    """The kernel knows the helper for the length of the block."""
    helper = Helper(name, queue)
    helper.register(enabled=True)
    try:
        yield
    finally:
        helper.register(enabled=False)
        try:
            helper.delete()
        except OSError as error:
            if error.errno != errno.EBUSY:  # rules or connections have it still
                raise


def announced(payload: memoryview) -> dict[str, object] | None:
    """Return the connection that a packet of a server announces. Its line is in one packet."""
    header = (payload[0] & 15) * 4
    tcp = payload[header:]
    data = tcp[(tcp[12] >> 4) * 4 :]
    line = ANNOUNCEMENT.match(data)
    if tcp[:2] != PORT.to_bytes(2) or line is None or not 0 < int(line[1]) < 1 << 16:
        return None
    return {
        "src": socket.inet_ntoa(payload[16:20]),  # the client, which gets this packet
        "dst": socket.inet_ntoa(payload[12:16]),
        "proto": socket.IPPROTO_TCP,
        "dport": int(line[1]),
    }


def callback(packet: nfq.NetfilterQueueData) -> None:
    """Let each packet pass; the connection that it announces is expected before it arrives."""
    expected = announced(packet.payload)
    if expected is None:
        packet.accept()
    else:
        packet.set_verdict(nfq.NF_ACCEPT, expectation={"expected": expected})
        print("{src} may connect to port {dport} of {dst}".format(**expected), flush=True)


def interrupt(*_: object) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


def main(queue: int = 0, name: str = "pigeon") -> None:
    """Help until interrupted."""
    signal.signal(signal.SIGTERM, interrupt)
    with registered(name, queue), nfq.open() as handle:
        # The flag loads the module that reads expectations.
        handle.create_queue(
            queue, callback, default_verdict=nfq.NF_ACCEPT, flags=nfq.NFQA_CFG_F_CONNTRACK
        )
        print(f"Helper {name} has queue {queue}", flush=True)
        try:
            while True:
                handle.process(timeout=None)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 0, *sys.argv[2:3])
