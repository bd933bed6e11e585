# SPDX-License-Identifier: GPL-2.0-or-later
"""The filters of `watch`: `host=10.0.0.0/8`, `port=53`, `proto=udp`, `not uid=0`."""

import ipaddress
import pwd
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from libnetfilterqueue.cli._numbers import MARK_MAX, USER, mark_number, number_in
from libnetfilterqueue.cli._protocols import protocol_number

if TYPE_CHECKING:
    from libnetfilterqueue.cli._record import Record

Test = Callable[["Record"], bool]

NOT = "not "  # in front of a filter
PORT = number_in(0, 0xFFFF)


class Filter(NamedTuple):
    """A condition, and what it is about: host, port, mark and so on."""

    key: str
    test: Test
    negated: bool


def _network(value: str) -> Callable[[bytes | None], bool]:
    network = ipaddress.ip_network(value, strict=False)
    size, mask = network.max_prefixlen // 8, int(network.netmask)
    wanted = int(network.network_address)
    return lambda address: (
        address is not None
        and len(address) == size
        and int.from_bytes(address, "big") & mask == wanted
    )


def _host(value: str) -> Test:
    holds = _network(value)
    return lambda record: holds(record.fields.saddr) or holds(record.fields.daddr)


def _src(value: str) -> Test:
    holds = _network(value)
    return lambda record: holds(record.fields.saddr)


def _dst(value: str) -> Test:
    holds = _network(value)
    return lambda record: holds(record.fields.daddr)


def _port(value: str) -> Test:
    number = PORT(value)
    return lambda record: number in (record.fields.sport, record.fields.dport)


def _proto(value: str) -> Test:
    number = protocol_number(value)
    return lambda record: record.fields.protocol == number or number in record.fields.extensions


def _mark(value: str) -> Test:
    number, _, mask = value.partition("/")
    bits = mark_number(mask) if mask else MARK_MAX
    wanted = mark_number(number)
    return lambda record: record.packet.mark & bits == wanted


def _uid(value: str) -> Test:
    try:
        number = USER(value) if value.isdecimal() else pwd.getpwnam(value).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {value!r}") from None
    return lambda record: record.packet.uid == number


def _device(value: str) -> Test:
    return lambda record: value in (record.indev, record.outdev)


TESTS: dict[str, Callable[[str], Test]] = {
    "host": _host,
    "src": _src,
    "dst": _dst,
    "port": _port,
    "proto": _proto,
    "mark": _mark,
    "uid": _uid,
    "device": _device,
}


def parse_filter(text: str) -> Filter:
    """Reads KEY=VALUE or not KEY=VALUE. Raises ValueError."""
    key, _, value = text.removeprefix(NOT).partition("=")
    if key not in TESTS:
        raise ValueError(f"{key!r} is not one of {', '.join(TESTS)}")
    if not value:
        raise ValueError(f"{text!r} is not KEY=VALUE")
    return Filter(key, TESTS[key](value), text.startswith(NOT))


def combine(filters: Iterable[Filter]) -> Test:
    """For each key, a packet must match one of those with it; and none that is negated."""
    groups: dict[str, list[Test]] = {}
    negated: list[Test] = []
    for each in filters:
        (negated if each.negated else groups.setdefault(each.key, [])).append(each.test)
    return lambda record: (
        not any(test(record) for test in negated)
        and all(any(test(record) for test in tests) for tests in groups.values())
    )
