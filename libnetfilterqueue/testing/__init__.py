# SPDX-License-Identifier: GPL-2.0-or-later
"""A fake kernel for tests of programs that use queues: no root, no rules, no namespaces.

``FakeKernel`` opens handles that work like any others, sends packets through their queues, and
reports what became of them. In pytest it is the fixture ``nfqueue``. See docs/testing.md.
"""

from libnetfilterqueue.testing._attributes import Attributes, ConntrackAttributes
from libnetfilterqueue.testing._kernel import FakeKernel
from libnetfilterqueue.testing._messages import SentVerdict
from libnetfilterqueue.testing._packets import KernelPacket
from libnetfilterqueue.testing._queues import KernelQueue, Refusal
from libnetfilterqueue.testing._rules import Rule
from libnetfilterqueue.testing._waiting import Waitable

__all__ = [
    "Attributes",
    "ConntrackAttributes",
    "FakeKernel",
    "KernelPacket",
    "KernelQueue",
    "Refusal",
    "Rule",
    "SentVerdict",
    "Waitable",
]
