# SPDX-License-Identifier: GPL-2.0-or-later
"""packaging/release.py, in a repository whose ./dev does as if: each item stops what it is for."""

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import Repository

SCRIPT = Path(__file__).parent.parent.parent / "packaging" / "release.py"

TODAY = datetime.datetime.now(datetime.UTC).date()
CHANGELOG = f"# Changelog\n\n## 1.2.0, {TODAY}\n\n- A change.\n\n## 1.1.0, 2020-01-01\n\n- Older.\n"

# Notes which task it was, and leaves in dist what `wheel` would.
DEV = """\
#!/bin/sh
set -eu
echo "$1" >>tasks
[ "$1" = wheel ] || exit 0
name=libnetfilterqueue-1.2.0
rm -rf dist
mkdir dist
touch "dist/$name-cp311-cp311-manylinux_2_28_x86_64.whl"
git archive --format=tar.gz --prefix="$name/" --add-virtual-file="$name/PKG-INFO:" \
    --output="dist/$name.tar.gz" HEAD
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One that is ready for 1.2.0."""
    repository = Repository(tmp_path)
    repository.add("meson.build", "project('libnetfilterqueue', version: '1.2.0')\n")
    repository.add("CHANGELOG.md", CHANGELOG)
    repository.add(".gitignore", "/dist/\n/tasks\n")
    repository.write("dev", DEV)
    (tmp_path / "dev").chmod(0o755)
    repository.git("add", "dev")
    repository.git("commit", "--quiet", "--message", "Ready")
    return repository


def release(repository: Repository, *arguments: str) -> subprocess.CompletedProcess[str]:
    return repository.run(sys.executable, SCRIPT, *arguments)


def test_ready(repository: Repository) -> None:
    """All is well: each item is shown, the tasks have run, and nothing has changed."""
    before = repository.git("rev-parse", "HEAD")
    done = release(repository, "1.2.0")
    assert done.returncode == 0, done.stderr
    checked = [line for line in done.stdout.splitlines() if line.startswith("[x]")]
    assert len(checked) == 12
    tasks = (repository.directory / "tasks").read_text().split()
    assert tasks == ["lint", "test", "docs", "wheel"]
    for what in (
        "./dev release 1.2.0 --tag",
        "git push origin main v1.2.0",
        "cibuildwheel --archs native dist/libnetfilterqueue-1.2.0.tar.gz",
        "twine upload dist/libnetfilterqueue-1.2.0.tar.gz wheelhouse/*.whl\n",
    ):
        assert what in done.stdout
    assert repository.git("rev-parse", "HEAD") == before
    assert repository.git("tag", "--list") == repository.git("status", "--porcelain") == ""


def test_tag(repository: Repository) -> None:
    """The tag is made when it is asked for, once."""
    assert release(repository, "1.2.0", "--tag").returncode == 0
    assert repository.git("cat-file", "-t", "v1.2.0") == "tag\n"
    assert repository.git("rev-parse", "v1.2.0^{commit}") == repository.git("rev-parse", "HEAD")
    again = release(repository, "1.2.0", "--tag")
    assert again.returncode == 1
    assert "there is a tag v1.2.0" in again.stderr


def test_no_tag(repository: Repository) -> None:
    """That the tag can't be made is told as anything else that is wrong."""
    repository.git("tag", "v1.2.0/other")
    done = release(repository, "1.2.0", "--tag")
    assert done.returncode == 1
    assert done.stderr.startswith("[-] the tag v1.2.0 is made: git tag --annotate v1.2.0")


def test_left_out(repository: Repository) -> None:
    """What .gitattributes keeps out of archives is not missed in the source distribution."""
    repository.add("benchmarks/bench.py", "")
    repository.add(".gitattributes", "/.* export-ignore\n/benchmarks export-ignore\n")
    repository.git("commit", "--quiet", "--message", "For work on a checkout")
    done = release(repository, "1.2.0")
    assert done.returncode == 0, done.stderr


def change(name: str, old: str, new: str) -> Callable[[Repository], None]:
    """A commit that changes a file."""

    def apply(repository: Repository) -> None:
        text = (repository.directory / name).read_text()
        assert old in text
        repository.add(name, text.replace(old, new))
        repository.git("commit", "--quiet", "--message", "Not ready")

    return apply


BEFORE_TASKS: dict[str, tuple[Callable[[Repository], object], str]] = {
    "changed": (lambda repository: repository.write("meson.build", ""), "not committed"),
    "untracked": (lambda repository: repository.write("new", ""), "?? new"),
    "branch": (lambda repository: repository.git("checkout", "-q", "-b", "other"), "it is other"),
    "tag": (lambda repository: repository.git("tag", "v1.2.0"), "there is a tag"),
    "version": (change("meson.build", "1.2.0", "1.1.0"), "it says 1.1.0"),
    "no meson.build": (change("meson.build", "project", "#"), "meson introspect"),
    "unreleased": (change("CHANGELOG.md", str(TODAY), "unreleased"), "1.2.0, unreleased"),
    "yesterday": (change("CHANGELOG.md", str(TODAY), "2026-01-01"), "1.2.0, 2026-01-01"),
    "older": (change("CHANGELOG.md", f"## 1.2.0, {TODAY}\n", ""), "'1.1.0, 2020-01-01'"),
    "empty": (change("CHANGELOG.md", "- A change.\n", ""), "nothing stands under it"),
}


@pytest.mark.parametrize(("spoil", "wrong"), BEFORE_TASKS.values(), ids=BEFORE_TASKS.keys())
def test_not_ready(
    repository: Repository, spoil: Callable[[Repository], object], wrong: str
) -> None:
    """It says what is wrong, and no task has begun."""
    spoil(repository)
    done = release(repository, "1.2.0", "--tag")
    assert done.returncode == 1
    assert wrong in done.stderr
    assert not (repository.directory / "tasks").exists()


AFTER_TASKS = {
    "lint": ("= wheel ] || exit 0", "= wheel ] || exit 3", "./dev lint exited with 3"),
    "no sdist": ("HEAD\n", "HEAD\nrm dist/*.gz\n", "there is no dist/"),
    "missing": ("HEAD\n", "HEAD . ':!CHANGELOG.md'\n", "missing: CHANGELOG.md"),
    "too much": ('PKG-INFO:"', 'PKG-INFO:" --add-virtual-file=x/secret:', "not in git: secret"),
    "no wheel": ("touch", ": touch", "there are 0 in dist"),
    "unrepaired": ("manylinux_2_28_x86_64", "linux_x86_64", "-linux_x86_64.whl"),
    "dirty": ("mkdir dist", "mkdir dist; touch left-over", "?? left-over"),
}


@pytest.mark.parametrize(("old", "new", "wrong"), AFTER_TASKS.values(), ids=AFTER_TASKS.keys())
def test_failing(repository: Repository, old: str, new: str, wrong: str) -> None:
    """What a task says, or leaves, stops it, and there is no tag."""
    change("dev", old, new)(repository)
    done = release(repository, "1.2.0", "--tag")
    assert done.returncode == 1
    assert wrong in done.stderr
    assert repository.git("tag", "--list") == ""


@pytest.mark.parametrize("version", ["1.2", "v1.2.0", "1.2.0.dev1", "x"])
def test_no_version(repository: Repository, version: str) -> None:
    """What can't be a release's version is refused at once."""
    done = release(repository, version)
    assert done.returncode == 2
    assert version in done.stderr
