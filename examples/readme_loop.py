# SPDX-License-Identifier: GPL-2.0-or-later
"""Print the packets of a queue and let them pass, in a receive loop of our own.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    python readme_loop.py [QUEUE]

Ends with Ctrl-C or SIGTERM.
"""

import errno
import signal
import socket
import struct
import sys

import libnetfilterqueue


def handle_tcp(payload: bytes) -> None:
    """Print what a TCP segment says."""
    src, dst = struct.unpack("!HH", payload[:4])
    print(f"    tcp.src: {src}")
    print(f"    tcp.dst: {dst}")


def handle_udp(payload: bytes) -> None:
    """Print what a UDP datagram says."""
    src, dst = struct.unpack("!HH", payload[:4])
    print(f"    udp.src: {src}")
    print(f"    udp.dst: {dst}")


def handle_ipv4(payload: bytes) -> None:
    """Print what an IPv4 packet says."""
    ip_verlen = payload[0]
    ip_ver = ip_verlen >> 4
    assert ip_ver == 4
    src = socket.inet_ntop(socket.AF_INET, payload[12:16])
    dst = socket.inet_ntop(socket.AF_INET, payload[16:20])
    print(f"    ipv4.src: {src}")
    print(f"    ipv4.dst: {dst}")
    protocol = payload[9]
    hdrlen = (ip_verlen & 0x0F) * 4
    data = payload[hdrlen:]
    handler = {6: handle_tcp, 17: handle_udp}
    if protocol in handler:
        handler[protocol](data)


def handle_ipv6(payload: bytes) -> None:
    """Print what an IPv6 packet says."""
    ip_verlen = payload[0]
    ip_ver = ip_verlen >> 4
    assert ip_ver == 6
    src = socket.inet_ntop(socket.AF_INET6, payload[8:24])
    dst = socket.inet_ntop(socket.AF_INET6, payload[24:40])
    print(f"    ipv6.src: {src}")
    print(f"    ipv6.dst: {dst}")
    protocol = payload[6]
    data = payload[40:]
    handler = {6: handle_tcp, 17: handle_udp}
    if protocol in handler:
        handler[protocol](data)


def callback(data: libnetfilterqueue.NetfilterQueueData) -> None:
    """Print what the packet says, and let it pass."""
    try:
        print("Received:")
        mac_bytes = data.get_packet_hw()
        mac_string = ":".join(["%02x"] * len(mac_bytes)) % tuple(mac_bytes)
        print(f"    eth.src: {mac_string}")
        payload = data.get_payload()
        ip_verlen = payload[0]
        ip_ver = ip_verlen >> 4
        handler = {4: handle_ipv4, 6: handle_ipv6}
        if ip_ver in handler:
            handler[ip_ver](payload)
        data.set_verdict(libnetfilterqueue.NF_ACCEPT, mark=None)
        print(flush=True)
    except Exception as e:  # noqa: BLE001
        print(e, flush=True)


def main(number: int = 1) -> None:
    """Receive packets until interrupted."""
    handle = libnetfilterqueue.open()

    handle.unbind_pf(socket.AF_INET)
    handle.unbind_pf(socket.AF_INET6)

    handle.bind_pf(socket.AF_INET)
    handle.bind_pf(socket.AF_INET6)

    queue = handle.create_queue(number, callback)
    queue.set_mode(libnetfilterqueue.NFQNL_COPY_PACKET, 0xFFFF)

    sock = socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        while True:
            try:
                data = sock.recv(4096)
                handle.handle_packet(data)
            except OSError as e:
                if e.errno == errno.ENOBUFS:
                    print("Unable to hold processed packets", flush=True)
                    continue
                raise
    except KeyboardInterrupt:
        pass
    finally:
        sock.close()

    queue.destroy()

    handle.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main(*map(int, sys.argv[1:]))
