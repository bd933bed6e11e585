# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that packets go through on the fake kernel."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, SupportsIndex

from libnetfilterqueue._arguments import check_count, check_type
from libnetfilterqueue.testing._attributes import check_bits


class Marked(Protocol):
    """What rules look at, and change."""

    mark: int


class Target(NamedTuple):
    """The queue that a packet goes to; with ``None`` it passes."""

    number: int | None
    bypass: bool = False


class PlainRule(NamedTuple):
    """A rule that sends packets with a mark, or all, to a queue."""

    number: int
    bypass: bool
    match_mark: int | None


class Rule:
    """A rule for ``enqueue(rules=...)``: which packets it is about, and where they go.

    Args:
        match_mark: ``-m mark --mark`` of iptables.
        limit: ``-m limit --limit-burst`` while no time passes: so many packets match.
        every: ``-m statistic --mode nth --every``: the first packet matches, and one in so many
            from there on.
        queue: ``-j NFQUEUE --queue-num``. Several numbers are ``--queue-balance`` with
            ``--queue-cpu-fanout``, where each packet comes on the next processor.
        bypass: Its ``--queue-bypass``.
        set_mark: That of ``-j MARK``, behind which the packet meets the next rule.
        xor_mark: Likewise.

    Each condition is asked only if those before it match. Without a queue and a mark the packet
    passes, as with ``-j RETURN``.

    A rule has its own counters: let all packets of a test meet the same ``Rule``. Raises
    ``ValueError`` for a value out of range and for more than one target, and ``TypeError``.

    >>> sent = kernel.enqueue(b"data", mark=1, rules=[Rule(match_mark=1), Rule(queue=1)])
    >>> sent.passed  # the first rule lets packets with this mark pass
    True
    """

    def __init__(
        self,
        *,
        match_mark: SupportsIndex | None = None,
        limit: SupportsIndex | None = None,
        every: SupportsIndex | None = None,
        queue: SupportsIndex | Iterable[SupportsIndex] | None = None,
        bypass: bool = False,
        set_mark: SupportsIndex | None = None,
        xor_mark: SupportsIndex | None = None,
    ) -> None:
        if [queue, set_mark, xor_mark].count(None) < 2:
            raise ValueError("Rule(): queue, set_mark and xor_mark exclude each other")
        self._match_mark = _check("match_mark", match_mark)
        self._left = _check("limit", limit)
        self._every = None if every is None else check_count("Rule(): every", every)
        self._seen = 0
        self._set_mark = _check("set_mark", set_mark)
        self._xor_mark = _check("xor_mark", xor_mark)
        self._numbers = _check_queues(queue)
        self._bypass = bool(bypass)
        targets = [Target(number, self._bypass) for number in self._numbers]
        self._targets = itertools.cycle(targets or [Target(None)])

    def _as_plain(self) -> PlainRule | None:
        others = (self._left, self._every, self._set_mark, self._xor_mark)
        if len(self._numbers) != 1 or others.count(None) < len(others):
            return None
        return PlainRule(self._numbers[0], self._bypass, self._match_mark)

    def _matches(self, packet: Marked) -> bool:
        """Whether the rule is about a packet that meets it."""
        is_marked = self._match_mark in (None, packet.mark)
        return is_marked and self._is_in_limit() and self._is_its_turn()

    def _is_in_limit(self) -> bool:
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0

    def _is_its_turn(self) -> bool:
        self._seen += 1
        return self._every is None or (self._seen - 1) % self._every == 0

    def _apply(self, packet: Marked) -> Target | None:
        """Where a packet goes that the rule is about; ``None`` for the next rule."""
        if self._set_mark is None and self._xor_mark is None:
            return next(self._targets)
        before = packet.mark if self._set_mark is None else self._set_mark
        packet.mark = before ^ (self._xor_mark or 0)
        return None


def walk(rules: Iterable[Rule], packet: Marked) -> Target:
    """Where a packet goes that meets these rules."""
    fates = (rule._apply(packet) for rule in rules if rule._matches(packet))
    return next(filter(None, fates), Target(None))


def first_queue(rules: Iterable[Rule]) -> int:
    """The number of the first queue that is named."""
    return next(number for rule in rules for number in rule._numbers)


def plain_rule(rules: Sequence[Rule]) -> PlainRule:
    """The only rule, which has no state and one queue. Raises ValueError for others."""
    plain = rules[0]._as_plain() if len(rules) == 1 else None
    if plain is None:
        raise ValueError(
            "enqueue(): rules on the real kernel are one, with a queue, match_mark and bypass; "
            "the fake kernel takes any"
        )
    return plain


def make_rules(
    rules: Sequence[Rule] | None,
    number: SupportsIndex,
    bypass: bool,
    match_mark: SupportsIndex | None,
) -> list[Rule]:
    """The rules that are enqueue()'s arguments. Raises TypeError and ValueError."""
    if rules is None:
        queue = check_bits("enqueue(): number", number, 16)
        if match_mark is not None:
            match_mark = check_bits("enqueue(): match_mark", match_mark, 32)
        return [Rule(match_mark=match_mark, queue=queue, bypass=bypass)]
    found = list(rules)
    for rule in found:
        check_type(isinstance(rule, Rule), "enqueue(): rules must be Rules", rule)
    if (number, bypass, match_mark) != (1, False, None):
        raise ValueError("enqueue(): rules exclude number, bypass and match_mark")
    if not any(rule._numbers for rule in found):
        raise ValueError("enqueue(): one of the rules must have a queue")
    return found


def _check(name: str, value: SupportsIndex | None) -> int | None:
    """The value of an option of 32 bits."""
    return None if value is None else check_bits(f"Rule(): {name}", value, 32)


def _check_queues(queue: SupportsIndex | Iterable[SupportsIndex] | None) -> list[int]:
    if queue is None:
        return []
    numbers = list(queue) if isinstance(queue, Iterable) else [queue]
    if not numbers:
        raise ValueError("Rule(): queue must name a queue, or be None")
    return [check_bits("Rule(): queue", number, 16) for number in numbers]
