# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills filters under traffic by SIGKILL, again and again, and accounts for each packet.

Somebody keeps a copy of their socket's descriptor, and so the next filter takes their queues over.
With NF_REPEAT and a plain rule each datagram arrives once, or was dropped by a callback. With the
default verdict none passes undecided, whatever state the rules have, and only those are dropped
that an ended filter had in hand. The same goes for filters that detach and hand the descriptor on,
for two that read at once, and for programs that `libnetfilterqueue keep` starts again. TCP
conversations run beside the datagrams, and are right.

Only root is told how many packets filters had in hand. Elsewhere that isn't compared.
"""

import contextlib
from typing import NamedTuple

from netns import Counter, private_namespace
from soak_lives import HandedOver, Kept, Killed, Overlapping, Trial
from soak_traffic import (
    DROPPED,
    FLOW,
    LIFE,
    MARK,
    PLAIN,
    STATEFUL,
    XOR,
    Receiver,
    Record,
    Rules,
    end,
    send,
    transfer,
)
from soaking import Beside, finish

import libnetfilterqueue as nfq

COLUMNS = (
    ("kills", "kills"),
    ("detached", "detached"),
    ("configuring", "half configured"),
    ("handling", "in handlers"),
    ("sent", "datagrams"),
    ("transfers", "TCP"),
    ("lost", "lost"),
    ("undecided", "undecided"),
    ("twice", "twice"),
    ("refused", "refused"),
    ("dead", "in dead hands"),
    ("gap", "longest gap"),
)


class Plan(NamedTuple):
    """One row of the table: what is tried."""

    trial: type[Trial]
    rules: Rules
    unanswered: int | None

    @property
    def repeats(self) -> bool:
        """Whether what filters leave comes again. Only then do they drop some on purpose."""
        return self.unanswered == nfq.NF_REPEAT

    @property
    def name(self) -> str:
        verdict = "repeat" if self.repeats else "default"
        return f"{self.trial.__name__} {self.rules.name} {verdict}"

    def run(self, ends: int) -> "Account":
        """Ends so many filters, in a namespace of its own."""
        with private_namespace(), Record.create() as record:
            went_in = Counter("OUTPUT", FLOW, table="mangle")
            self.rules.install()
            counters = (
                went_in,
                Counter("INPUT", "-p tcp"),
                Counter("INPUT", f"-p tcp -m mark --mark 0/{LIFE:#x}"),
            )
            receiver = Receiver(record, self.rules)
            with contextlib.closing(receiver), Beside(receiver.run):
                trial = self._try(record, ends)
                end()
            return Account(self, trial, *[counter.packets for counter in counters])

    def _try(self, record: Record, ends: int) -> Trial:
        with contextlib.ExitStack() as stack:
            traffic = [stack.enter_context(Beside(send, record, drops=self.repeats))]
            if len(self.rules.queues) == 1:
                traffic.append(stack.enter_context(Beside(transfer, record)))
            trial = self.trial(record, self.rules, self.unanswered)
            stack.callback(trial.close)
            trial.run(ends, traffic)
        return trial


PLANS = (
    Plan(Killed, PLAIN, nfq.NF_REPEAT),
    *[Plan(Killed, rules, None) for rules in STATEFUL],
    Plan(HandedOver, PLAIN, nfq.NF_REPEAT),
    Plan(HandedOver, MARK, None),
    Plan(Overlapping, PLAIN, nfq.NF_REPEAT),
    Plan(Overlapping, XOR, None),
    Plan(Kept, PLAIN, nfq.NF_REPEAT),
)


class Account:
    """What became of all packets."""

    def __init__(
        self, plan: Plan, trial: Trial, went_in: int, tcp: int, tcp_undecided: int
    ) -> None:
        board = trial.record.board
        self._plan, self._trial, self._board = plan, trial, board
        self._went_in, self._tcp = went_in, tcp
        arrivals = bytes(trial.record.arrivals[: board.sent])
        fates = bytes(trial.record.fates[: board.sent])
        self.kills = trial.ends["kill"]
        self.detached = trial.ends["handover"]
        self.configuring = trial.ends["configuring"]
        self.handling = trial.ends["handling"]
        self.sent = board.sent
        self.transfers = board.transfers
        self.undecided = board.undecided + tcp_undecided
        self.refused = board.refused
        self.twice = sum(count > 1 for count in arrivals)
        self.gap = f"{board.gap / 1e6:.0f} ms"
        missing = sum(
            not count and not fate & DROPPED for count, fate in zip(arrivals, fates, strict=True)
        )
        self.dead = 0 if plan.repeats else self._count_dead(missing)
        self.lost = missing if plan.repeats else self._count_lost(missing)

    def _count_dead(self, missing: int) -> int:
        """How many packets, of TCP too, have got the default verdict, by the kernel's count."""
        if not self._trial.lines:
            return missing
        queued = sum(line.id_sequence for line in self._trial.lines)
        return queued - self._board.decided - self._tcp

    def _count_lost(self, missing: int) -> int:
        """How many packets are missing that no filter had in hand."""
        return int(max(0, missing - self.dead, self.dead - self._trial.in_hand[1]))

    def wrong(self) -> list[str]:
        """What is wrong."""
        lines, board = self._trial.lines, self._board
        repeated = self._plan.repeats
        checks = {
            f"{self.lost} packets are lost": not self.lost,
            f"{self.undecided} packets passed undecided": not self.undecided,
            f"{self.twice} datagrams arrived twice": not self.twice,
            f"{self.refused} verdicts were refused": not self.refused,
            f"{board.overruled} datagrams arrived that were dropped": not board.overruled,
            f"{board.changed} datagrams were not changed once": not board.changed,
            "the kernel had no room": not any(
                line.queue_dropped or line.user_dropped for line in lines
            ),
            "packets wait": not any(line.waiting for line in lines) or self._plan.trial is Kept,
            f"{self._went_in} datagrams came to the rules": repeated or self._went_in == self.sent,
            f"{self.dead} packets were dropped, and at least {self._trial.in_hand[0]:.0f} were in "
            "dead hands": repeated or not lines or self.dead >= self._trial.in_hand[0],
            "no TCP conversation was held": board.transfers or len(self._plan.rules.queues) > 1,
        }
        return [
            f"{self._plan.name}: {wrong}"
            for wrong in [*self._trial.wrong, *(key for key, right in checks.items() if not right)]
        ]

    def __str__(self) -> str:
        figures = "".join(f"{getattr(self, key):>{len(title) + 2}}" for key, title in COLUMNS)
        return f"{self._plan.name:<26}{figures}"


def run(ends: int) -> None:
    """Ends so many filters by each plan, and shows what became of the packets."""
    print(" " * 26 + "".join(f"  {title}" for _, title in COLUMNS))
    accounts = []
    for plan in PLANS:
        accounts.append(plan.run(ends))
        print(accounts[-1], flush=True)
    finish([wrong for account in accounts for wrong in account.wrong()])
