# SPDX-License-Identifier: GPL-2.0-or-later
"""The rule of the real kernel that sends packets to their queue, as nft would write it.

No tool has to be installed: these are nf_tables' own messages.
"""

import errno
import socket
import struct
from collections.abc import Callable

from libnetfilterqueue._netlink import attribute
from libnetfilterqueue.constants import Hook
from libnetfilterqueue.testing import _messages as nl
from libnetfilterqueue.testing._real_namespace import Netlink, UnavailableError
from libnetfilterqueue.testing._rules import PlainRule

NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_DELRULE = 0, 3, 6, 8
NFPROTO_INET = 1
NLM_F_CREATE, NLM_F_APPEND = 0x400, 0x800

NFTA_TABLE_NAME = 1
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_TYPE = 1, 3, 4, 7
NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY = 1, 2
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS = 1, 2, 4
NFTA_LIST_ELEM, NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 1, 2
NFTA_META_DREG, NFTA_META_KEY, NFT_META_MARK, NFT_REG_1 = 1, 2, 3, 1
NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA, NFTA_DATA_VALUE, NFT_CMP_EQ = 1, 2, 3, 1, 0
NFTA_QUEUE_NUM, NFTA_QUEUE_TOTAL, NFTA_QUEUE_FLAGS = 1, 2, 3
NFTA_TARGET_NAME, NFTA_TARGET_REV, NFTA_TARGET_INFO = 1, 2, 3

TABLE = "libnetfilterqueue"
# The hooks that packets of this namespace's own come through. The last chain sees what has passed.
CHAINS = {Hook.NF_INET_LOCAL_OUT: "output", Hook.NF_INET_POST_ROUTING: "postrouting"}
LAST, FIRST_PRIORITY, LAST_PRIORITY = "last", -300, 0x7FFFFFFF
LAST_NUMBER = 0xFFFF  # the queue that they go to then


def be32(number: int) -> bytes:
    """How nf_tables has numbers."""
    return struct.pack("!I", number)


def text(value: str) -> bytes:
    """How it has names."""
    return value.encode() + b"\0"


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute that is made of others."""
    return attribute(kind | nl.NLA_F_NESTED, b"".join(attributes))


def expression(name: str, *attributes: bytes) -> bytes:
    """One step of a rule."""
    return nest(
        NFTA_LIST_ELEM, attribute(NFTA_EXPR_NAME, text(name)), nest(NFTA_EXPR_DATA, *attributes)
    )


def match_mark(mark: int) -> list[bytes]:
    """`meta mark MARK`."""
    return [
        expression(
            "meta",
            attribute(NFTA_META_DREG, be32(NFT_REG_1)),
            attribute(NFTA_META_KEY, be32(NFT_META_MARK)),
        ),
        expression(
            "cmp",
            attribute(NFTA_CMP_SREG, be32(NFT_REG_1)),
            attribute(NFTA_CMP_OP, be32(NFT_CMP_EQ)),
            nest(NFTA_CMP_DATA, attribute(NFTA_DATA_VALUE, struct.pack("=I", mark))),
        ),
    ]


def queue_of_nft(number: int, bypass: bool) -> bytes:
    """`queue num NUMBER bypass`."""
    return expression(
        "queue",
        attribute(NFTA_QUEUE_NUM, struct.pack("!H", number)),
        attribute(NFTA_QUEUE_TOTAL, struct.pack("!H", 1)),
        attribute(NFTA_QUEUE_FLAGS, struct.pack("!H", bypass)),
    )


def queue_of_iptables(number: int, bypass: bool) -> bytes:
    """`-j NFQUEUE --queue-num NUMBER --queue-bypass`, for kernels that have no other."""
    return expression(
        "target",
        attribute(NFTA_TARGET_NAME, text("NFQUEUE")),
        attribute(NFTA_TARGET_REV, be32(3)),
        attribute(NFTA_TARGET_INFO, struct.pack("=HHH2x", number, 1, bypass)),
    )


class Rules:
    """One rule at a time, and another one behind all others, which sends what passes to a queue."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._current: tuple[PlainRule, int] | None = None
        self._queue: Callable[[int, bool], bytes] = queue_of_nft
        try:
            self._add_chains()
            self._add_last()
        except OSError as error:
            raise UnavailableError(
                f"this kernel has no rule that queues packets: {error.strerror} (it needs "
                "nf_tables, with nft_queue or with nft_compat and xt_NFQUEUE)"
            ) from error

    def _add_chains(self) -> None:
        chains = [(name, hook, FIRST_PRIORITY) for hook, name in CHAINS.items()]
        chains.append((LAST, Hook.NF_INET_POST_ROUTING, LAST_PRIORITY))
        table = (NFT_MSG_NEWTABLE, NLM_F_CREATE, attribute(NFTA_TABLE_NAME, text(TABLE)))
        self._change(table, *(self._chain(*chain) for chain in chains))

    @staticmethod
    def _chain(name: str, hook: int, priority: int) -> tuple[int, int, bytes]:
        place = nest(
            NFTA_CHAIN_HOOK,
            attribute(NFTA_HOOK_HOOKNUM, be32(hook)),
            attribute(NFTA_HOOK_PRIORITY, struct.pack("!i", priority)),
        )
        body = attribute(NFTA_CHAIN_TABLE, text(TABLE)) + attribute(NFTA_CHAIN_NAME, text(name))
        return (
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE,
            body + place + attribute(NFTA_CHAIN_TYPE, text("filter")),
        )

    def _add_last(self) -> None:
        try:
            self._change(self._rule(LAST, self._queue(LAST_NUMBER, False)))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            self._queue = queue_of_iptables
            self._change(self._rule(LAST, self._queue(LAST_NUMBER, False)))

    @staticmethod
    def _rule(chain: str, *expressions: bytes) -> tuple[int, int, bytes]:
        body = attribute(NFTA_RULE_TABLE, text(TABLE)) + attribute(NFTA_RULE_CHAIN, text(chain))
        flags = NLM_F_CREATE | NLM_F_APPEND
        return NFT_MSG_NEWRULE, flags, body + nest(NFTA_RULE_EXPRESSIONS, *expressions)

    def use(self, rule: PlainRule, hook: int) -> None:
        """All packets meet this rule from now on, at this hook."""
        if self._current == (rule, hook):
            return
        empty = [
            (
                NFT_MSG_DELRULE,
                0,
                attribute(NFTA_RULE_TABLE, text(TABLE)) + attribute(NFTA_RULE_CHAIN, text(chain)),
            )
            for chain in CHAINS.values()
        ]
        match = [] if rule.match_mark is None else match_mark(rule.match_mark)
        queue = self._queue(rule.number, rule.bypass)
        self._change(*empty, self._rule(CHAINS[Hook(hook)], *match, queue))
        self._current = (rule, hook)

    def _change(self, *changes: tuple[int, int, bytes]) -> None:
        """All of them or none."""
        flags = nl.NLM_F_REQUEST | nl.NLM_F_ACK
        header = struct.pack("!BBH", NFPROTO_INET, 0, 0)
        batch = struct.pack("!BBH", socket.AF_UNSPEC, 0, NFNL_SUBSYS_NFTABLES)
        self._netlink.request(
            nl.message(NFNL_MSG_BATCH_BEGIN, batch, flags=nl.NLM_F_REQUEST),
            *(
                nl.message(NFNL_SUBSYS_NFTABLES << 8 | kind, header + body, number, flags | more)
                for number, (kind, more, body) in enumerate(changes, 1)
            ),
            nl.message(NFNL_MSG_BATCH_END, batch, flags=nl.NLM_F_REQUEST),
        )

    def close(self) -> None:
        """They end with their namespace."""
        self._netlink.close()
