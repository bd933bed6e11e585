# SPDX-License-Identifier: GPL-2.0-or-later
""".githooks/pre-commit: what it stops, and what it lets through."""

import shutil
import sys
from pathlib import Path

import pytest
from repository import Repository

ROOT = Path(__file__).parent.parent.parent
GOOD = '# SPDX-License-Identifier: GPL-2.0-or-later\n"""A module."""\n\nNUMBER = 1\n'


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One with the hook, the tools and their configuration."""
    repository = Repository(tmp_path)
    shutil.copytree(ROOT / ".githooks", tmp_path / ".githooks")
    for name in (".clang-format", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    repository.git("config", "core.hooksPath", ".githooks")
    return repository


def commit(repository: Repository) -> bool:
    """Commits, unless the hook stops it."""
    done = repository.run("git", "commit", "--message", "A change")
    assert (done.returncode != 0) == ("Not committed" in done.stderr), done.stderr
    return done.returncode == 0


def test_good(repository: Repository) -> None:
    """What is well formatted is committed."""
    repository.add("module.py", GOOD)
    repository.add("code.c", "int number;\n")
    assert commit(repository)
    assert repository.git("log", "--format=%s") == "A change\n"


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
    assert not commit(repository)
    assert repository.run("git", "log").returncode != 0


def test_staged(repository: Repository) -> None:
    """What is committed counts, not what lies in the work tree."""
    repository.add("module.py", GOOD)
    repository.write("module.py", "x=1")
    repository.write("other.py", "x=1")
    assert commit(repository)
    repository.add("module.py", "x=1\n")
    repository.write("module.py", GOOD)
    assert not commit(repository)
