# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop of readme_loop.py under gevent, unchanged, while another greenlet keeps running.

    iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1
    python gevent_monkey.py [QUEUE]

Ends with Ctrl-C or SIGTERM.
"""

from gevent import monkey

monkey.patch_all()

import signal  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
import readme_loop  # noqa: E402


def tick() -> None:
    """Run beside the loop."""
    seconds = 0.0
    while True:
        print(f"The other greenlet has run for {seconds:.1f} s", flush=True)
        gevent.sleep(0.1)
        seconds += 0.1


def main(number: int = 1) -> None:
    """Run both until interrupted."""
    loop = gevent.spawn(readme_loop.main, number)
    ticker = gevent.spawn(tick)
    for signum in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(signum, loop.kill, KeyboardInterrupt)
    loop.get()
    ticker.kill()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
