# SPDX-License-Identifier: GPL-2.0-or-later
"""A systemd that manages services in the calling thread's network namespace.

    systemd.py DIRECTORY [TREE]

becomes one, in mount and process namespaces of its own, which knows nothing but the units of the
directory. Below /opt it sees our interpreter and its packages, where every user may read them. With
TREE it is the systemd of that tree, where it sees our files below /host.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from netns import TIMEOUT, run

TARGETS = ("only", "sysinit", "basic", "shutdown", "network-pre")  # what units may refer to
NAMESPACES = "--mount --pid --fork --mount-proc --cgroup --kill-child"
HOST = "/host"
BASE = Path("/opt/base")
ENVIRONMENT = Path("/opt/dns-filter/venv")
PATIENCE = 3 * TIMEOUT  # emulated machines are slow


class Systemd:
    """It, its services, and its view of the file system.

    `root` is what a service's unit says so that it sees our files where we do.
    """

    def __init__(self, units: Path, tree: str | None = None) -> None:
        self.units = units
        self.root = f"RootDirectory={HOST}" if tree else ""
        for name in TARGETS:
            (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        arguments = [str(units), tree] if tree else [str(units)]
        command = ["unshare", *NAMESPACES.split(), sys.executable, __file__, *arguments]
        path = {"PYTHONPATH": str(Path(__file__).parent.parent / "support")}
        self._process = subprocess.Popen(command, env={**os.environ, **path})
        self._pid = 0
        self.wait_until(self._has_started)
        self.wait_until(self._answers)

    def _has_started(self) -> bool:
        pid = self._process.pid
        self._pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text() or 0)
        return self._pid != 0

    def _answers(self) -> bool:
        try:
            return self.run("systemctl show --property Version") != ""
        except RuntimeError:
            return False

    def wait_until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert self._process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)

    def run(self, command: str) -> str:
        """Runs a command where systemd is, and returns its output."""
        return run(f"nsenter -t {self._pid} -m -p {command}")

    def path(self, path: str) -> Path:
        """Where a path of systemd's is for us."""
        return Path(f"/proc/{self._pid}/root{path}")

    def main_process(self, service: str) -> dict[str, str]:
        """What the kernel tells of a service's main process."""
        pid = self.run(f"systemctl show --property MainPID --value {service}").strip()
        lines = self.path(f"/proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def mount_all() -> None:
    """Mounts what systemd needs, and our interpreter where services of other users see it."""
    run("mount -t tmpfs tmpfs /run")
    run("mount -t tmpfs tmpfs /opt")
    run("umount /sys/fs/cgroup")
    run("mount -t cgroup2 none /sys/fs/cgroup")
    binary = ENVIRONMENT / "bin" / "python"
    for directory in (BASE, ENVIRONMENT / "lib", binary.parent):
        directory.mkdir(parents=True)
    run(f"mount --bind {sys.base_prefix} {BASE}")
    run(f"mount --bind {sys.prefix}/lib {ENVIRONMENT}/lib")
    binary.symlink_to(BASE / Path(sys.executable).resolve().relative_to(sys.base_prefix))
    (ENVIRONMENT / "pyvenv.cfg").write_text(f"home = {BASE}/bin\n")


def enter(tree: str) -> None:
    """Makes the tree the root."""
    run(f"mount --bind {tree} {tree}")
    host = Path(f"{tree}{HOST}")
    host.mkdir(exist_ok=True)
    run(f"mount --rbind / {host}")
    for name in ("dev", "proc", "run", "sys"):
        run(f"mount --rbind /{name} {tree}/{name}")
    os.chdir(tree)
    run("pivot_root . .")
    run("umount --lazy .")


def main(units: str, tree: str | None = None) -> None:
    mount_all()
    if tree:
        enter(tree)
        units = f"{HOST}{units}"
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "SYSTEMD_UNIT_PATH": units,
        "SYSTEMD_GENERATOR_PATH": "/none",  # each of them takes an emulated machine long
        "SYSTEMD_ENVIRONMENT_GENERATOR_PATH": "/none",
        "container": "test",
    }
    command = ["/lib/systemd/systemd", "--unit=only.target", "--log-target=console"]
    os.execve(command[0], [*command, "--show-status=no", "--log-level=notice"], environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
