# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard output, by rich."""

from rich.console import Console

PIPE_WIDTH = 10_000  # columns; nothing is cut short for what is no terminal


class Output(Console):
    """Standard output. Raises BrokenPipeError when nobody reads it any more, as print() does."""

    def __init__(self) -> None:
        super().__init__(highlight=False, emoji=False, markup=False)
        if not self.is_terminal:
            self.width = PIPE_WIDTH

    def on_broken_pipe(self) -> None:
        """Leaves it to the caller to end; rich would exit."""
        raise BrokenPipeError
