# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `demo`."""

from libnetfilterqueue.cli.grammar._command import STATUSES, Command

EPILOG = f"""\
It works in a network namespace of its own: the rules of this machine stay as
they are. Without root it needs user namespaces. It needs iptables and
ip6tables.

example:
  libnetfilterqueue demo

{STATUSES}"""


COMMAND = Command("demo", "show real packets passing through a queue", EPILOG)
