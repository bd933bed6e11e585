# SPDX-License-Identifier: GPL-2.0-or-later
"""The source distribution: what is in it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from building import ROOT, environment

# The build system tries the compiler's warnings one by one.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MAKE = "import sys, mesonpy; mesonpy.build_sdist(sys.argv[1])"
DIRECTORIES = {"docs", "examples", "ext", "libnetfilterqueue", "packaging", "tests"}
FILES = {"LICENSE", "PKG-INFO", "meson.build", "meson.options", "pyproject.toml"}
PAGES = {"CHANGELOG.md", "README.md", "SECURITY.md"}


def is_left_out(name: str) -> bool:
    """Whether it is for work on a checkout."""
    return name.startswith((".", "benchmarks/", "debian/", "tools/")) or name == "dev"


def run(directory: Path, *command: object) -> str:
    """What the command prints."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked() -> set[str]:
    """The files of the checkout that git knows or would add."""
    options = ["--cached", "--others", "--exclude-standard", "-z"]
    names = run(ROOT, "git", "-c", f"safe.directory={ROOT}", "ls-files", *options).split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution of the checkout as it is, committed or not."""
    work = tmp_path_factory.mktemp("sdist")
    checkout = work / "checkout"
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    run(checkout, "git", "init", "--quiet")
    run(checkout, "git", "add", "--all")
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(checkout, "git", *author, "commit", "--quiet", "--message=everything")
    run(checkout, sys.executable, "-c", MAKE, work)
    (archive,) = work.glob("*.tar.gz")
    run(work, "tar", "-xzf", archive)
    return work / archive.name.removesuffix(".tar.gz")


def files_below(directory: Path) -> set[str]:
    """The paths of all files there."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_contents(sdist: Path) -> None:
    """The source distribution holds all files that not only a checkout needs, and its metadata."""
    expected = {name for name in tracked() if not is_left_out(name)}
    assert files_below(sdist) == expected | {"PKG-INFO"}


def test_top(sdist: Path) -> None:
    """The top of the source distribution has only known directories and files, and pages."""
    assert {path.name for path in sdist.iterdir() if path.is_dir()} == DIRECTORIES
    files = {path.name for path in sdist.iterdir() if path.is_file()}
    pages = {name for name in files if name.endswith(".md")}
    assert files - pages == FILES
    assert pages >= PAGES
