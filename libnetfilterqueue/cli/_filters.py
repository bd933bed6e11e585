# SPDX-License-Identifier: GPL-2.0-or-later
"""The filters of `watch`: `host=10.0.0.0/8`, `port=53`, `proto=udp`."""

import ipaddress
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from libnetfilterqueue.cli._numbers import number_in
from libnetfilterqueue.cli._protocols import protocol_number

if TYPE_CHECKING:
    from libnetfilterqueue.cli._dissect import Dissected

Test = Callable[["Dissected"], bool]

PORT = number_in(0, 0xFFFF)


class Filter(NamedTuple):
    """A condition, and what it is about: host, port or proto."""

    key: str
    test: Test


def _host(value: str) -> Test:
    network = ipaddress.ip_network(value, strict=False)
    return lambda packet: any(
        address is not None and address in network for address in (packet.saddr, packet.daddr)
    )


def _port(value: str) -> Test:
    number = PORT(value)
    return lambda packet: number in (packet.sport, packet.dport)


def _proto(value: str) -> Test:
    number = protocol_number(value)
    return lambda packet: packet.protocol == number or number in packet.extensions


TESTS: dict[str, Callable[[str], Test]] = {"host": _host, "port": _port, "proto": _proto}


def parse_filter(text: str) -> Filter:
    """Reads KEY=VALUE. Raises ValueError."""
    key, _, value = text.partition("=")
    if key not in TESTS:
        raise ValueError(f"{key!r} is not one of {', '.join(TESTS)}")
    return Filter(key, TESTS[key](value))


def combine(filters: Iterable[Filter]) -> Test:
    """A packet has to match one of those with the same key, for each key that there is."""
    groups: dict[str, list[Test]] = {}
    for key, test in filters:
        groups.setdefault(key, []).append(test)
    return lambda packet: all(any(test(packet) for test in tests) for tests in groups.values())
