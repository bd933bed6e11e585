# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP data that gets another length than its sender knows."""

import contextlib
import socket

import pytest
from netns import PORT, queue_rule
from queues import Handle, Packet, process_until

import libnetfilterqueue as nfq

OLD, SECOND = b"the old one", b"2nd"


@pytest.mark.parametrize("new", [b"another one", b"a much longer one"])
def test_tcp_of_another_length(handle: Handle, new: bytes) -> None:
    """Data behind a longer or shorter payload is sent again and again, and never arrives."""
    sent: list[bytes] = []
    arrived = bytearray()

    def callback(packet: Packet) -> None:
        content = bytearray(packet.payload)
        data = bytes(content[20 + (content[32] >> 4) * 4 :])
        sent.append(data)
        if data == OLD:
            content[-len(OLD) :] = new
            content[2:4] = len(content).to_bytes(2)
            nfq.update_checksums(content)
        packet.accept(payload=content)

    def arrives(data: bytes) -> bool:
        with contextlib.suppress(BlockingIOError):
            arrived.extend(receiver.recv(100))
        return arrived == data

    queue_rule(1, f"-p tcp --dport {PORT}")
    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    with socket.create_server(("127.0.0.1", PORT)) as listener, socket.socket() as sender:
        sender.setblocking(False)
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sender.connect_ex(("127.0.0.1", PORT))
        process_until(handle, lambda: len(sent) >= 2)  # the handshake
        receiver, _ = listener.accept()
        with receiver:
            receiver.setblocking(False)
            sender.send(OLD)
            process_until(handle, lambda: arrives(new))
            sender.send(SECOND)
            if len(new) == len(OLD):
                process_until(handle, lambda: arrives(new + SECOND))
            else:
                process_until(handle, lambda: len([data for data in sent if SECOND in data]) >= 3)
                assert arrives(new)
