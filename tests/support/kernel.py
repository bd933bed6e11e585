# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel that the tests run on."""

import os

KERNEL = tuple(int(number) for number in os.uname().release.split(".")[:2])
