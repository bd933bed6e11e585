# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `libnetfilterqueue`, described in docs/command-line.md.

Each subcommand has a module with a function `run`. It is imported when it is needed: only some of
them need the packages of an extra.
"""

import importlib
import io
import os
import select
import sys
from collections.abc import Sequence

from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._parser import parse

EXTRAS = {  # who installs them
    **dict.fromkeys(("argparse_manpage", "dns", "rich", "scapy", "shtab"), "cli"),
    "prometheus_client": "metrics",
}
PACKAGES = {"dns": "dnspython"}  # where a module has another name

DONE, FAILED, INTERRUPTED = 0, 1, 130  # argparse exits with 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default sys.argv's, and return the exit status.

    It is 0 when the command has done its work or nobody reads its output any more, 1 when it failed
    and has printed a line on stderr, 130 when it was interrupted. Raises SystemExit with 2 for a
    wrong command line, with 0 after --help and --version, and with the program's status after keep.
    Call it in the main thread: it handles signals.
    """
    prepare_streams()
    options = parse(arguments)
    try:
        module = importlib.import_module(f"{__name__}._{options.command}")
        status = INTERRUPTED if module.run(options) else DONE
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = DONE
    except (CommandError, OSError, ModuleNotFoundError) as error:
        print(f"libnetfilterqueue {options.command}: {explain(error)}", file=sys.stderr)
        status = FAILED
    flush_or_forget_output(wait=status != INTERRUPTED)
    return status


def prepare_streams() -> None:
    """Nothing fails because a stream is closed, or because the locale is not UTF-8's."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(null, "w", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        if isinstance(sys.stdout.buffer, io.RawIOBase):  # PYTHONUNBUFFERED
            sys.stdout = buffered(sys.stdout)
        sys.stdout.reconfigure(errors="backslashreplace")


def buffered(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same by lines: without a buffer, only a part of them is written if a signal comes."""
    raw = open(stream.fileno(), "wb", closefd=False)  # noqa: SIM115 (it is standard output)
    return io.TextIOWrapper(raw, encoding=stream.encoding, line_buffering=True)


def explain(error: Exception) -> str:
    """What the user is told of it."""
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise error
        package = PACKAGES.get(module, module)
        return f"needs the package {package}: pip install 'libnetfilterqueue[{EXTRAS[module]}]'"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def flush_or_forget_output(*, wait: bool) -> None:
    """What can't be written must not fail again, with another status, when the interpreter ends.

    Whoever interrupts a command does not wait until somebody reads its output.
    """
    try:
        if wait or select.select([], [sys.stdout], [], 0)[1]:
            sys.stdout.flush()
            return
    except OSError:
        pass
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
