# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in for commands of pages that need the Internet or would change the machine.

    stand_ins.py COMMAND [ARGUMENT...]

does as much of the command as can be done without: it fails if the real one could not do it.
"""

import argparse
import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from capabilities import only
from packaging.requirements import Requirement
from scapy.utils import rdpcap

ROOT = Path(__file__).parent.parent.parent
# The capabilities of root in a container, unless it is given more or less.
CONTAINER = [
    *("audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod"),
    *("net_bind_service", "net_raw", "setfcap", "setgid", "setpcap", "setuid", "sys_chroot"),
]
BIND = "import libnetfilterqueue as nfq; nfq.open().create_queue(9, print).handle.close()"


def real(command: str) -> str:
    """The path of the command that this stands in for, which shells would look up after this."""
    path = shutil.which(command, path=os.environ["PATH"].partition(":")[2])
    assert path is not None, command
    return path


def dev(action: str, *arguments: str) -> None:
    """It is one of the project's tasks, and the files are there."""
    usage = subprocess.run([ROOT / "dev", "help"], check=True, capture_output=True, text=True)
    assert re.search(rf"^  {action}\b", usage.stdout, re.MULTILINE), action
    for path in (argument for argument in arguments if "/" in argument):
        assert (ROOT / path).exists(), path


def git(*arguments: str) -> None:
    """The checkout has hooks where git is to look for them."""
    assert arguments[:2] == ("config", "core.hooksPath")
    assert (ROOT / arguments[2] / "pre-commit").exists()


def tcpdump(*arguments: str) -> None:
    """The file, or standard input, holds packets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", action="store_true")
    parser.add_argument("-r", required=True)
    path = parser.parse_args(arguments).r
    assert rdpcap(sys.stdin.buffer if path == "-" else path)


def sudo(command: str, *arguments: str) -> None:
    """Tests are root already. What the reader has installed somewhere is one of these."""
    program = shutil.which(command) or Path(command).name
    os.execvp(program, [command, *arguments])


def python3(*arguments: str) -> None:
    """There is a virtual environment."""
    if arguments[:2] != ("-m", "venv"):
        os.execv(sys.executable, ["python", *arguments])


def install(*arguments: str) -> None:
    """The files are there. None is to be executable: systemd warns of such units."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-D", action="store_true")
    parser.add_argument("-m", choices=["644"], required=True)
    parser.add_argument("-t", required=True)
    parser.add_argument("files", type=Path, nargs="+")
    for file in parser.parse_args(arguments).files:
        assert file.exists(), file


def setpriv(*arguments: str) -> None:
    """Not as another user: whom the page names this machine need not have. No root either."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reuid")
    parser.add_argument("--regid")
    parser.add_argument("--init-groups", action="store_true")
    _, others = parser.parse_known_args(arguments)
    bits = [] if "--securebits" in others else ["--securebits", "+noroot"]
    os.execv(real("setpriv"), ["setpriv", *bits, *others])


def apt(action: str, *names: str) -> None:
    """The distribution has these packages."""
    assert action in {"install", "update"}
    if names:  # one that is missing makes it fail
        subprocess.run(["apt-cache", "show", *names], check=True, stdout=subprocess.DEVNULL)


def netfilter_persistent(action: str) -> None:
    """It would save the rules, of which there are some."""
    assert action == "save"
    saved = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True)
    assert "NFQUEUE" in saved.stdout


def other_distribution(*command: str) -> None:
    """The build tells that distribution's users the same command."""
    assert f" {' '.join(command)}\n" in (ROOT / "meson.build").read_text()


def pip(action: str, *arguments: str) -> None:
    """The packages are those that tests use, and have these extras."""
    assert action == "install"
    for argument in arguments:
        requirement = Requirement(re.sub(r"^\.", "libnetfilterqueue", argument))
        metadata = importlib.metadata.metadata(requirement.name)
        assert requirement.extras <= set(metadata.get_all("Provides-Extra") or ()), argument


def systemctl(action: str, *arguments: str) -> None:
    """systemd knows the action; unit and program are among the examples or on the page."""
    command = [real("systemctl"), "--help"]
    known = subprocess.run(command, check=True, capture_output=True, text=True)
    assert re.search(rf"^  {action}\b", known.stdout, re.MULTILINE), action
    for unit in (word for word in arguments if not word.startswith("-")):
        path = Path(f"{unit.removesuffix('.service')}.service")
        path = path if path.exists() else ROOT / "examples" / path
        for program in re.findall(r"[\w-]+\.py\b", path.read_text()):
            assert (path.parent / program).exists(), program


def docker(action: str, *arguments: str) -> None:
    """Its files are there, or root of a container that is run so can bind a queue."""
    if action == "run":
        run_container(*arguments)
    else:
        assert action in {"build", "compose"}
        parser = argparse.ArgumentParser()
        parser.add_argument("--file", type=Path, required=True)
        assert parser.parse_known_args(arguments)[0].file.exists()


def run_container(*arguments: str) -> None:
    """Somebody who has the container's capabilities can bind a queue."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rm", action="store_true")
    parser.add_argument("--cap-add", action="append", default=[], type=str.lower)
    parser.add_argument("--cap-drop", choices=["all"])
    parser.add_argument("--network", default="bridge")
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    capabilities = [*options.cap_add, *([] if options.cap_drop else CONTAINER)]
    binding = [*only(*capabilities), sys.executable, "-c", BIND]
    subprocess.run(binding, check=True)


COMMANDS: dict[str, Callable[..., None]] = {
    **{command.__name__: command for command in (apt, dev, docker, git, install, pip)},
    **{command.__name__: command for command in (python3, setpriv, sudo, systemctl, tcpdump)},
    "netfilter-persistent": netfilter_persistent,
    "podman": docker,
    **{
        name: functools.partial(other_distribution, name)
        for name in ("apk", "dnf", "pacman", "zypper")
    },
}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
