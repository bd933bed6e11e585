# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m libnetfilterqueue`: the same as the command `libnetfilterqueue`."""

import sys

from libnetfilterqueue.cli import main

if __name__ == "__main__":
    sys.exit(main())
