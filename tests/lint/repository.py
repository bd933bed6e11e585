# SPDX-License-Identifier: GPL-2.0-or-later
"""Git repositories that tests make for themselves."""

import os
import subprocess
import sys
from pathlib import Path

PERSON = {"NAME": "A Person", "EMAIL": "person@example.org"}


class Repository:
    """A new one, with nobody's configuration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.git("init", "--quiet", "--initial-branch", "main")

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, with the tools of this Python's environment."""
        environment = {
            f"GIT_{who}_{key}": value
            for who in ("AUTHOR", "COMMITTER")
            for key, value in PERSON.items()
        }
        environment["GIT_CONFIG_GLOBAL"] = "/dev/null"
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=self.directory,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def git(self, *arguments: str) -> str:
        """What git prints, when all goes well."""
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, name: str, text: str) -> None:
        """Writes a file of the work tree."""
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def add(self, name: str, text: str) -> None:
        """Writes a file that the next commit has."""
        self.write(name, text)
        self.git("add", name)
