# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar and help of each command. It imports nothing that only the command itself needs."""
