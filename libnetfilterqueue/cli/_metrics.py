# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue metrics`, by prometheus_client."""

import argparse
import sys

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.openmetrics.exposition import generate_latest

from libnetfilterqueue.cli._address import Address
from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._signals import awaitable_signals, is_interrupt
from libnetfilterqueue.metrics import Collector


def run(options: argparse.Namespace) -> bool:
    """Runs it; returns whether it was interrupted."""
    registry = CollectorRegistry()
    registry.register(Collector())
    if options.listen is None:
        text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
        print(text.decode(), end="")
        return False
    return serve(registry, options.listen)


def serve(registry: CollectorRegistry, address: Address) -> bool:
    """Answers until a signal comes; returns whether that was Ctrl-C's."""
    with awaitable_signals() as signals:
        try:
            server, thread = start_http_server(address.port, address.host, registry)
        except OSError as error:
            raise CommandError(f"--listen {address}: {error.strerror}") from error
        here = address._replace(port=server.server_port)
        print(f"Listening on http://{here}/metrics; Ctrl-C ends.", file=sys.stderr, flush=True)
        interrupted = is_interrupt(signals)
        server.shutdown()
        server.server_close()
        thread.join()
        return interrupted
