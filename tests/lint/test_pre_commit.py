# SPDX-License-Identifier: GPL-2.0-or-later
""".githooks/pre-commit, in a repository of its own: what it stops, and what it lets through.

`./dev lint` runs this.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
GOOD = '# SPDX-License-Identifier: GPL-2.0-or-later\n"""A module."""\n\nNUMBER = 1\n'


class Repository:
    """One with the hook, the tools and their configuration."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.git("init", "--quiet")
        shutil.copytree(ROOT / ".githooks", directory / ".githooks")
        for name in (".clang-format", "pyproject.toml"):
            shutil.copy(ROOT / name, directory)
        (directory / ".venv").symlink_to(sys.prefix)
        self.git("config", "core.hooksPath", ".githooks")

    def git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        identity = {f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")}
        identity |= {f"GIT_{who}_EMAIL": "a@example.org" for who in ("AUTHOR", "COMMITTER")}
        return subprocess.run(
            ["git", *arguments],
            cwd=self._directory,
            env={**os.environ, **identity, "GIT_CONFIG_GLOBAL": "/dev/null"},
            capture_output=True,
            text=True,
            check=False,
        )

    def write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text)

    def add(self, name: str, text: str) -> None:
        self.write(name, text)
        self.git("add", name)

    def commit(self) -> bool:
        done = self.git("commit", "--message", "A change")
        assert (done.returncode != 0) == ("Not committed" in done.stderr), done.stderr
        return done.returncode == 0


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_good(repository: Repository) -> None:
    """What is well formatted is committed."""
    repository.add("module.py", GOOD)
    repository.add("code.c", "int number;\n")
    assert repository.commit()
    assert repository.git("log", "--format=%s").stdout == "A change\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("module.py", GOOD.replace(" = ", "=")),
        ("module.py", GOOD.replace("\n\n", "\n\nimport os\n\n")),
        ("code.c", "int  number;\n"),
        ("code.h", "int  number;\n"),
    ],
    ids=["format", "style", "C", "header"],
)
def test_bad(repository: Repository, name: str, text: str) -> None:
    """What is not is stopped, also beside what is."""
    repository.add("good.py", GOOD)
    repository.add(name, text)
    assert not repository.commit()
    assert repository.git("log").returncode != 0


def test_staged(repository: Repository) -> None:
    """What is committed counts, not what lies in the work tree."""
    repository.add("module.py", GOOD)
    repository.write("module.py", "x=1")
    repository.write("other.py", "x=1")
    assert repository.commit()
    repository.add("module.py", "x=1\n")
    repository.write("module.py", GOOD)
    assert not repository.commit()
