# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues that outlive the process: somebody keeps a copy of the socket's descriptor.

That is systemd's descriptor store, or ``libnetfilterqueue keep``. ``open()`` hands them the
descriptor of a new socket, or adopts the one that they have passed to this process. So the same
program starts, restarts, crashes and is upgraded without a case of its own. See "Restarts without a
gap" in the documentation.
"""

from libnetfilterqueue.keeping._open import open

__all__ = ["open"]
