# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue completion` and `manual`, in the shells and by the man that read them."""

import subprocess
from pathlib import Path

import pytest
from netns import TIMEOUT, plain_environment
from terminals import terminal

from libnetfilterqueue.cli import main
from libnetfilterqueue.cli._parser import COMMANDS

BASH = """
. "$0"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_libnetfilterqueue libnetfilterqueue "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C "$argv[2]"'
CASES = [  # what is typed, and what it may become
    ("st", {"status"}),
    ("rules --by", {"--bypass"}),
    ("rules --hook p", {"prerouting", "postrouting"}),
    ("keep --restart on", {"on-failure"}),
]


@pytest.fixture
def script(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Path:
    """What is printed for a shell, as a file."""
    assert main(["completion", request.param]) == 0
    path = tmp_path / "script"
    path.write_text(capsys.readouterr().out)
    return path


def output(*command: "str | Path", directory: Path | None = None) -> str:
    """What a command prints, and nothing on stderr."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
        cwd=directory,
        env={**plain_environment(), "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("script", ["bash"], indirect=True)
@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_bash(script: Path, typed: str, expected: set[str]) -> None:
    """bash completes commands, options and values."""
    words = ["libnetfilterqueue", *typed.split()]
    assert set(output("bash", "-c", BASH, script, *words).split()) == expected


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_files(script: Path, tmp_path: Path) -> None:
    """Names of files are completed where an option takes one."""
    (tmp_path / "packets.pcapng").touch()
    words = ["libnetfilterqueue", "watch", "1", "--write", "pack"]
    assert output("bash", "-c", BASH, script, *words, directory=tmp_path) == "packets.pcapng\n"


@pytest.mark.parametrize("script", ["fish"], indirect=True)
@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_fish(script: Path, typed: str, expected: set[str]) -> None:
    """fish completes the same."""
    lines = output("fish", "--no-config", "-c", FISH, script, f"libnetfilterqueue {typed}")
    assert {line.split("\t")[0] for line in lines.splitlines()} == expected


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh(script: Path) -> None:
    """zsh completes the same at its prompt."""
    script = script.rename(script.with_name("_libnetfilterqueue"))
    with terminal("zsh", "-f") as shown:
        shown.wait_until(lambda: shown.text.strip() != "")
        shown.press(f"fpath=({script.parent} $fpath)\n".encode())
        shown.press(b"autoload -U compinit; compinit -uD; clear\n")
        shown.press(b"libnetfilterqueue ru\t")
        shown.wait_until(lambda: "libnetfilterqueue rules" in shown.text)
        shown.press(b"--by\t")
        shown.wait_until(lambda: "libnetfilterqueue rules --bypass" in shown.text)


def test_manual(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page has all commands with their options and examples, and man has no objection."""
    assert main(["manual"]) == 0
    page = tmp_path / "libnetfilterqueue.1"
    page.write_text(capsys.readouterr().out)
    assert page.read_text().startswith(".TH LIBNETFILTERQUEUE ")
    for command in COMMANDS:
        assert f"libnetfilterqueue {command.name}" in page.read_text()
    lines = output("man", "--warnings", "-l", page).splitlines()
    close = [" ".join(line.split()) for line in lines]  # distances are for man to choose
    assert "libnetfilterqueue - try and watch Linux's NFQUEUE, and keep queues over" in close
    assert "libnetfilterqueue [-h] [--version] COMMAND ..." in close
    assert "MORE ABOUT RULES" in lines
    assert "libnetfilterqueue rules --queue 1 --proto udp --dport 53 --bypass" in close
    assert close.count("130 interrupted by Ctrl-C") == 1
    assert max(map(len, lines)) <= 87  # examples have their own width, behind a margin of 7
