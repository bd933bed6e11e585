# SPDX-License-Identifier: GPL-2.0-or-later
"""A build where something is missing says what it is, and what installs it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from building import ROOT, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the compiler may be slow to start

LIBRARIES = {"libnetfilter_queue": "1.0.5", "libnfnetlink": "1.0.1", "libmnl": "1.0.4"}
# What stands after each distribution's command.
PACKAGES = {
    "apt install": "gcc libc6-dev pkg-config python3-dev"
    " libnetfilter-queue-dev libnfnetlink-dev libmnl-dev",
    "dnf install": "gcc pkgconf-pkg-config python3-devel"
    " libnetfilter_queue-devel libnfnetlink-devel libmnl-devel",
    "pacman -S": "gcc pkgconf python libnetfilter_queue libnfnetlink libmnl",
    "apk add": "gcc musl-dev linux-headers pkgconf python3-dev"
    " libnetfilter_queue-dev libnfnetlink-dev libmnl-dev",
    "zypper install": "gcc pkg-config python3-devel"
    " libnetfilter_queue-devel libnfnetlink-devel libmnl-devel",
}


class Machine:
    """This machine, where a build does without what tests take away."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.before: list[str] = []  # a command that runs the build
        self.environment = environment()

    def without(self, path: str) -> None:
        """Something empty is mounted on the file or directory, for the build alone."""
        mount = "-t tmpfs none" if os.path.isdir(path) else "--bind /dev/null"
        script = f'mount {mount} "$0" && exec "$@"'
        self.before = ["unshare", "--mount", "sh", "-c", script, os.path.realpath(path)]

    def with_libraries(self, versions: dict[str, str]) -> None:
        """Only those, in these versions."""
        place = self.directory / "pkgconfig"
        place.mkdir()
        for name, version in versions.items():
            text = f"Name: {name}\nDescription: none\nVersion: {version}\n"
            (place / f"{name}.pc").write_text(text)
        self.environment["PKG_CONFIG_LIBDIR"] = str(place)

    def build(self) -> str:
        """What the build that fails prints."""
        build = ["meson", "setup", str(self.directory / "build")]
        done = subprocess.run(
            [*self.before, *build],
            cwd=ROOT,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0, done.stdout
        return done.stdout

    def missing(self) -> list[str]:
        """What the build says is missing."""
        said = re.search(r"ERROR: .*missing here: (.*)\.$", self.build(), re.MULTILINE)
        assert said is not None
        return said[1].split(", ")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_compiler_and_libraries(machine: Machine) -> None:
    """Without a compiler and the libraries everything that is missing is said at once."""
    machine.environment["CC"] = "/nonexistent/gcc"
    machine.with_libraries({})
    libraries = [f"{name} >= {version}" for name, version in LIBRARIES.items()]
    assert machine.missing() == ["a C compiler that finds its C library", *libraries]


def test_old_library(machine: Machine) -> None:
    """A library that is too old is named alone."""
    machine.with_libraries(LIBRARIES | {"libnetfilter_queue": "1.0.4"})
    assert machine.missing() == ["libnetfilter_queue >= 1.0.5"]


def test_pkg_config(machine: Machine) -> None:
    """Without pkg-config nothing is said of the libraries that it would find."""
    path = shutil.which("pkg-config")
    assert path is not None
    machine.without(path)
    assert machine.missing() == ["pkg-config"]


def test_python_h(machine: Machine) -> None:
    """Without Python.h the error names the interpreter that it has to be of."""
    machine.without(sysconfig.get_path("include"))
    assert machine.missing() == [f"Python.h of {sys.executable}"]


def test_advice(machine: Machine) -> None:
    """The packages are named for each family of distributions, and so they are in the docs."""
    machine.with_libraries({})
    said = machine.build()
    page = (ROOT / "docs" / "installing.md").read_text().replace(" \\\n    ", " ")
    for command, packages in PACKAGES.items():
        assert f"{command} {packages}\n" in said
        assert f"{command} {packages}\n" in page
    assert "--enablerepo=crb" in said
    assert f"python{sysconfig.get_python_version()}-dev" in said


@pytest.mark.parametrize("relative", [False, True])
def test_checksum(tmp_path: Path, relative: bool) -> None:
    """The wheels' libraries are built from archives with known checksums, and others refused."""
    (tmp_path / "libmnl-1.0.5.tar.bz2").write_bytes(b"something else")
    done = subprocess.run(
        [str(ROOT / "packaging" / "build-libraries")],
        cwd=tmp_path.parent,
        env={**environment(), "SOURCES": tmp_path.name if relative else str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stdout == "libmnl-1.0.5.tar.bz2: FAILED\n"
