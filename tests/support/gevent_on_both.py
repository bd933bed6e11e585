# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs an example that monkey-patches, on either kernel, and prints what became of its packets.

gevent_on_both.py EXAMPLE KERNEL
"""

import importlib
import json
import os
import signal
import sys
from typing import Any

from programs import EXAMPLES

sys.path.insert(0, str(EXAMPLES))
example: Any = importlib.import_module(sys.argv[1])  # patches all that comes after it

import gevent  # noqa: E402
from kernels import KERNELS, Network  # noqa: E402

ARGUMENTS = {"gevent_wsgi": (1, 0), "gevent_monkey": (1,)}


def drive(network: Network) -> None:
    """Sends datagrams once the example takes packets, and ends it when it has decided on all."""
    while not network.handles:  # it lets others run when it waits for packets, and not before
        gevent.sleep(0.001)
    network.send(b"1", b"2", b"3")
    while network.verdicts() < 3:
        gevent.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


def main(name: str, kernel: str) -> None:
    network = KERNELS[kernel]()
    network.rule()
    with network.patched():
        driving = gevent.spawn(drive, network)
        example.main(*ARGUMENTS[name])
        driving.get()
    print(json.dumps([(passed, data.decode(), mark) for passed, data, mark in network.outcomes()]))
    network.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
