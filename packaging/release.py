# SPDX-License-Identifier: GPL-2.0-or-later
"""The checklist of a release: checks each item, and shows it.

Changes nothing but the tag, which it makes with --tag when all is well. What leaves this machine,
the push, is left to you. It has a workflow build the wheels for everybody, and upload them.
"""

import argparse
import datetime
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

NAME = "libnetfilterqueue"
TASKS = ("lint", "test", "docs", "wheel", "deb")  # of ./dev; the last two leave their files in dist


class CheckError(Exception):
    """What is wrong with an item."""


def check(right: bool, wrong: str) -> None:
    """Raises CheckError with what is wrong unless it is right."""
    if not right:
        raise CheckError(wrong)


def output(*command: str) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def check_tree() -> None:
    """Nothing is changed that is not committed."""
    changed = output("git", "status", "--porcelain")
    check(not changed, f"not committed:\n{changed}")


def check_branch() -> None:
    """The branch is main."""
    branch = output("git", "branch", "--show-current").strip()
    check(branch == "main", f"it is {branch or 'none'}")


def check_tag(version: str) -> None:
    """There is no tag of that name."""
    check(not output("git", "tag", "--list", f"v{version}"), f"there is a tag v{version}")


def check_version(version: str) -> None:
    """meson.build has the version."""
    project = json.loads(output("meson", "introspect", "--projectinfo", "meson.build"))
    check(project["version"] == version, f"it says {project['version']}")


def check_changelog(version: str) -> None:
    """The first heading is that of the version and of today, and says something."""
    text = Path("CHANGELOG.md").read_text()
    _, heading, section = re.split(r"^## (.*)$", text, maxsplit=1, flags=re.MULTILINE)
    section, _, _ = section.partition("\n## ")
    wanted = f"{version}, {datetime.datetime.now(datetime.UTC).date()}"
    check(heading == wanted, f"the first heading is '{heading}', not '{wanted}'")
    check("\n- " in section, "nothing stands under it")


def check_packages(version: str) -> None:
    """The Debian package and the conda package have the version."""
    changelog = Path("debian/changelog").read_text()
    check(changelog.startswith(f"{NAME} ({version}-"), "debian/changelog begins with another one")
    recipe = Path("packaging/conda/recipe.yaml").read_text()
    check(f"\n  version: {version}\n" in recipe, "packaging/conda/recipe.yaml has another one")


def run(task: str) -> None:
    """Runs one of ./dev's tasks, which shows its own progress."""
    status = subprocess.run(["./dev", task], check=False).returncode
    check(status == 0, f"./dev {task} exited with {status}")


def files_in(path: Path) -> set[str]:
    """The files of an archive, below its one directory."""
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def check_sdist(version: str) -> None:
    """The source distribution has what git exports, and its metadata."""
    path = Path("dist", f"{NAME}-{version}.tar.gz")
    check(path.exists(), f"there is no {path}")
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "git.tar")  # without what .gitattributes keeps out
        output("git", "archive", f"--prefix={NAME}/", f"--output={archive}", "HEAD")
        expected = files_in(archive) | {"PKG-INFO"}
    files = files_in(path)
    check(files >= expected, f"missing: {', '.join(sorted(expected - files))}")
    check(files <= expected, f"not in git: {', '.join(sorted(files - expected))}")


def check_wheel(version: str) -> None:
    """There is one, for a manylinux: auditwheel has put the libraries into it."""
    wheels = [path.name for path in Path("dist").glob("*.whl")]
    check(len(wheels) == 1, f"there are {len(wheels)} in dist")
    right = re.fullmatch(rf"{NAME}-{re.escape(version)}-.*-manylinux.*\.whl", wheels[0])
    check(right is not None, f"it is {wheels[0]}")


def make_tag(version: str) -> None:
    """Makes the tag."""
    output("git", "tag", "--annotate", f"v{version}", "--message", f"{NAME} {version}")


def items(version: str, *, tag: bool) -> Iterator[tuple[str, Callable[[], None]]]:
    """All that is to be checked, the quick items first, and the tag if it is to be made."""
    yield "the tree is clean", check_tree
    yield "the branch is main", check_branch
    yield f"the tag v{version} is free", partial(check_tag, version)
    yield f"meson.build says {version}", partial(check_version, version)
    yield f"CHANGELOG.md begins with {version} and today's date", partial(check_changelog, version)
    yield f"the packages of Debian and of conda say {version}", partial(check_packages, version)
    for task in TASKS:
        yield f"./dev {task}", partial(run, task)
    yield "the source distribution has the files that git exports", partial(check_sdist, version)
    yield "the wheel carries its libraries", partial(check_wheel, version)
    yield "the tree is clean after all that", check_tree
    if tag:
        yield f"the tag v{version} is made", partial(make_tag, version)


def parse_arguments() -> argparse.Namespace:
    """The version, and whether to tag."""
    parser = argparse.ArgumentParser(prog="./dev release", description=__doc__)
    parser.add_argument("version", metavar="VERSION", help="the version to be released, X.Y.Z")
    parser.add_argument("--tag", action="store_true", help="make the tag vVERSION at the end")
    arguments = parser.parse_args()
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", arguments.version):
        parser.error(f"a version is X.Y.Z, or X.Y.Za1, b1 or rc1, not {arguments.version}")
    return arguments


def main() -> None:
    """Goes through the list, up to the first item that fails."""
    arguments = parse_arguments()
    version = arguments.version
    for what, checked in items(version, tag=arguments.tag):
        print(f"[ ] {what}", flush=True)
        try:
            checked()
        except CheckError as error:
            sys.exit(f"[-] {what}: {error}")
        print(f"[x] {what}", flush=True)
    if not arguments.tag:
        print(f"[ ] the tag: ./dev release {version} --tag")
    print(f"[ ] the push: git push origin main v{version}")
    # Not the files in dist: the wheel's libraries are this machine's.
    print("[ ] the wheels and the upload: .github/workflows/release.yml, which the tag starts")


if __name__ == "__main__":
    main()
