# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes text that others have chosen fit for a terminal."""


def printable(text: str) -> str:
    """The text without what moves the cursor, colours, or is no text at all."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def counted(count: int, noun: str) -> str:
    """As people say it: 1 packet, 2 packets."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
