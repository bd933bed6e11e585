# SPDX-License-Identifier: GPL-2.0-or-later
"""The real kernel."""

from libnetfilterqueue.testing._kernel import Kernel
from libnetfilterqueue.testing._real_queues import RealQueues


class RealKernel(Kernel):
    """The real kernel's queues, in a network namespace of their own; see ``Kernel``.

    Without root the namespace is in a user namespace of its own. Raises ``UnavailableError``, an
    ``OSError``, if the system forbids that, or the kernel has no rules that queue packets.

    >>> try:
    ...     with RealKernel() as kernel:
    ...         passed = kernel.decide(nfq.Packet.accept, packet.get_payload()).passed
    ... except UnavailableError as error:
    ...     print(error)
    """

    name = "real"

    def __init__(self) -> None:
        super().__init__(RealQueues)
