# SPDX-License-Identifier: GPL-2.0-or-later
"""A fake kernel for tests of programs that use queues: no root, no rules, no namespaces.

``FakeKernel`` opens handles that work like any others, sends packets through their queues, and
reports what became of them. In pytest it is the fixture ``nfqueue``. ``RealKernel`` does the same
with the real kernel's queues, in a namespace of its own. See docs/testing.md.
"""

from libnetfilterqueue.testing._attributes import Attributes, ConntrackAttributes
from libnetfilterqueue.testing._fake import FakeKernel
from libnetfilterqueue.testing._kernel import Kernel
from libnetfilterqueue.testing._messages import SentVerdict
from libnetfilterqueue.testing._packets import KernelPacket
from libnetfilterqueue.testing._queues import KernelQueue, Refusal
from libnetfilterqueue.testing._real import RealKernel
from libnetfilterqueue.testing._real_namespace import UnavailableError
from libnetfilterqueue.testing._rules import Rule
from libnetfilterqueue.testing._waiting import Waitable

__all__ = [
    "Attributes",
    "ConntrackAttributes",
    "FakeKernel",
    "Kernel",
    "KernelPacket",
    "KernelQueue",
    "RealKernel",
    "Refusal",
    "Rule",
    "SentVerdict",
    "UnavailableError",
    "Waitable",
]
