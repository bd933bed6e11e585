# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the tools that read and write the kernel's rules: iptables, nft and their like."""

import os
import shutil
import subprocess

from libnetfilterqueue.cli._errors import CommandError


def find_tool(name: str) -> str | None:
    """Its path, also where only root has its directory in PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def run_tool(path: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Runs it, and returns what it has printed. Raises CommandError if it fails."""
    done = subprocess.run(
        [path, *arguments],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise CommandError(f"{os.path.basename(path)} failed: {reason}")
    return done.stdout
