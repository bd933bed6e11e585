# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes text that others have chosen fit for a terminal."""


def printable(text: str) -> str:
    """The text without what moves the cursor, colours, or is no text at all."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
