# SPDX-License-Identifier: GPL-2.0-or-later
"""Other bindings' names on this engine, so that one import line moves a program."""
