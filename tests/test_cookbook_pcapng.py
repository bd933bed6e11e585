# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/pcapng.md: remarkable packets are in a file, and another host has copies."""

import contextlib
import signal
import time
from pathlib import Path

from netns import Counter, Namespace, UdpPair, run, veth
from recipes import recipe
from scapy.layers.inet import IP, UDP
from scapy.utils import rdpcap


def test_log(tmp_path: Path) -> None:
    """All packets pass. The remarkable one is logged with a comment, and copied to the probe."""
    file = tmp_path / "log.pcapng"
    with contextlib.closing(Namespace()) as probe:
        veth("eth0", "eth0", probe)
        run("ip address add 192.0.2.1/24 dev eth0")
        with probe:
            run("ip address add 192.0.2.9/24 dev eth0")
            remarkable = Counter("PREROUTING", "-m string --algo bm --string forbidden", table="raw")
            every = Counter("PREROUTING", "-p udp", table="raw", target="DROP")
        before = time.time()
        with (
            recipe("pcapng", tmp_path, "log_packets.py", "log.v4", file) as program,
            UdpPair(host="192.0.2.1") as udp,
        ):
            udp.send(b"fine", b"forbidden", b"fine too")
            assert [udp.recv() for _ in range(3)] == [b"fine", b"forbidden", b"fine too"]
            with probe:
                program.wait_until(lambda: every.packets)
                assert (every.packets, remarkable.packets) == (1, 1)
            program.end(signal.SIGTERM)
    (packet,) = rdpcap(str(file))
    assert packet[IP].dst == "192.0.2.1"
    assert packet[UDP].payload.load == b"forbidden"
    assert packet.comments == [b"it says 'forbidden'"]
    assert before - 1 < packet.time < time.time() + 1
