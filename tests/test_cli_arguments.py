# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `libnetfilterqueue`: its help, its exit statuses, and what it needs."""

import importlib.metadata
import shlex
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from netns import TIMEOUT
from programs import COMMAND

from libnetfilterqueue.cli import main

COMMANDS = [
    "demo",
    "rules",
    "watch",
    "replay",
    "status",
    "top",
    "metrics",
    "keep",
    "completion",
    "manual",
]

# Runs a command line as if those packages were not installed.
WITHOUT_EXTRA = """
import sys
for name in ("argparse_manpage", "dns", "prometheus_client", "rich", "scapy", "shtab"):
    sys.modules[name] = None
from libnetfilterqueue.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def without_extra(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(sys.executable, "-P", "-W", "error", "-c", WITHOUT_EXTRA, *arguments)


@pytest.mark.parametrize("arguments", [[], *([command] for command in COMMANDS)])
def test_help(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The help of each command has an example and the exit statuses, and fits on a terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as raised:
        main([*arguments, "--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    for part in ("example", "libnetfilterqueue "):
        assert part in text
    assert ("exit status:" in text and "  130  " in text) or arguments == ["keep"]
    assert max(map(len, text.splitlines())) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the package's version."""
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    version = importlib.metadata.version("libnetfilterqueue")
    assert capsys.readouterr().out == f"libnetfilterqueue {version}\n"


def test_both_ways() -> None:
    """The installed command is the module."""
    command = Path(sys.executable).parent / "libnetfilterqueue"
    assert run(str(command), "--help").stdout == run(*COMMAND, "--help").stdout != ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required: COMMAND"),
        ("nothing", "invalid choice: 'nothing'"),
        ("watch", "required: QUEUE"),
        ("watch 65536", "argument QUEUE: 65536 is not in the range 0-65535"),
        ("watch x", "argument QUEUE: 'x' is not a number in the range 0-65535"),
        ("watch 1 --count 0", "argument --count: 0 is not in the range 1-"),
        (
            "watch 1 --verdict keep",
            "argument --verdict: 'keep' is not one of accept, drop, stop, queue:N",
        ),
        ("watch 1 --verdict repeat", "argument --verdict: 'repeat' is not one of"),
        ("watch 1 --verdict queue:", "argument --verdict: 'queue:' is not one of"),
        ("watch 1 --verdict queue:65536", "argument --verdict: NF_QUEUE_NR()"),
        ("watch 1 --verdict queue:1", "argument --verdict: the packets would come back"),
        ("watch 1 --verdict queue:01", "argument --verdict: the packets would come back"),
        (
            "watch 1 --filter nothing",
            "argument --filter: 'nothing' is not one of host, src, dst, port, proto, mark, uid, ",
        ),
        ("watch 1 --filter host=no.such.host", "argument --filter: 'no.such.host' does not appear"),
        ("watch 1 --filter port=65536", "argument --filter: 65536 is not in the range 0-65535"),
        ("watch 1 --filter port=http", "argument --filter: 'http' is not a number"),
        ("watch 1 --filter proto=256", "argument --filter: 256 is not in the range 0-255"),
        ("watch 1 --filter proto=", "argument --filter: 'proto=' is not KEY=VALUE"),
        ("watch 1 --filter device", "argument --filter: 'device' is not KEY=VALUE"),
        ("watch 1 --filter mark=x", "argument --filter: 'x' is not a number, such as 5 or 0x5"),
        ("watch 1 --filter mark=1/-1", "argument --filter: -1 is not in the range 0-0xffffffff"),
        ("watch 1 --filter uid=no-such-user", "argument --filter: there is no user 'no-such-user'"),
        ("watch 1 --filter uid=4294967295", "argument --filter: 4294967295 is not in the range"),
        ("watch 1 -x --json", "argument --json: not allowed with argument -x"),
        ("watch 1 -x --write -", "argument -x: not allowed with --write -"),
        ("watch 1 --read f", "argument QUEUE: not allowed with --read, which binds no queue"),
        ("watch --read f --verdict drop", "argument --verdict: not allowed with --read"),
        ("watch --read f --fail-open", "argument --fail-open: not allowed with --read"),
        (f"watch --read {__file__} --write {__file__}", "argument --write: that is the file that"),
        ("replay", "required: MODULE:CALLABLE, FILE"),
        ("replay m f", "argument MODULE:CALLABLE: 'm' is not MODULE:CALLABLE, as in"),
        ("replay m:a-b f", "argument MODULE:CALLABLE: 'm:a-b' is not MODULE:CALLABLE, as in"),
        ("replay m:f f --default stop", "argument --default: 'stop' is not one of accept, drop"),
        ("replay m:f f --json --write -", "argument --json: not allowed with --write -"),
        (f"replay m:f {__file__} --write {__file__}", "argument --write: that is the file that"),
        ("watch 1 --json --write -", "argument --json: not allowed with --write -"),
        ("rules --bypass", "argument --bypass: not allowed without --queue"),
        ("rules --queue 4-1", "argument --queue: '4-1' ends before it begins"),
        ("rules --queue 1 --hook ingress", "argument --hook: invalid choice: 'ingress'"),
        ("rules --queue 1 --proto 0", "argument --proto: 0 is not in the range 1-255"),
        ("rules --queue 1 --dport 5", "argument --dport: needs --proto tcp, udp or sctp"),
        ("rules --queue 1 --proto tcp --sport 70000", "argument --sport: 70000 is not in the"),
        ("rules --queue 1 --in eth0", "argument --in: not known at output; it is at prerouting"),
        ("rules --queue 1 --uid 1 --hook input", "argument --uid: not known at input; it is at"),
        ("rules --queue 1 --out eth+", "argument --out: 'eth+' is not the name of a device"),
        ("rules --queue 1 --fanout", "argument --fanout: needs several queues"),
        ("rules --queue 1 --mark 0x100000000", "argument --mark: 0x100000000 is not in the range"),
        (
            "rules --queue 1 --proto icmp --dst ::1",
            "argument --proto: not of the same family as --dst",
        ),
        ("metrics --listen :80", "argument --listen: ':80' is not [HOST:]PORT"),
        ("metrics --listen ::1:80", "argument --listen: '::1:80' is not [HOST:]PORT"),
        ("metrics --listen [::1]:65536", "argument --listen: 65536 is not in the range 0-65535"),
        ("status --count 2", "argument --count: not allowed without --interval"),
        ("status --queue 1", "argument --queue: not allowed without --check"),
        ("status --warning drops=1", "argument --warning: not allowed without --check"),
        ("top --maxlen 0", "argument --maxlen: 0 is not in the range 1-4294967295"),
        ("status --interval 0", "argument --interval: 0 is not in the range 0.01-86400 (seconds)"),
        (
            "status --interval nan",
            "argument --interval: nan is not in the range 0.01-86400 (seconds)",
        ),
        ("status --interval x", "argument --interval: 'x' is not a number"),
    ],
)
def test_wrong_command_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line on stderr says what is wrong with a command line."""
    with pytest.raises(SystemExit) as raised:
        main(arguments.split())
    assert raised.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert message in errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ("watch 1", "cli"),
        ("watch 1 --json", "cli"),
        (f"watch --read {__file__}", "cli"),
        (f"replay json:dumps {__file__}", "cli"),
        ("status", "cli"),
        ("top", "cli"),
        ("completion zsh", "cli"),
        ("manual", "cli"),
        ("metrics", "metrics"),
    ],
)
def test_without_extra(arguments: str, extra: str) -> None:
    """Without the extra's packages a line says what to install."""
    command, *_ = arguments.split()
    done = without_extra(*arguments.split())
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"libnetfilterqueue {command}: needs the package ")
    assert line.endswith(f": pip install 'libnetfilterqueue[{extra}]'")


@pytest.mark.parametrize("arguments", ["--help", "watch --help", "demo", "rules --queue 1"])
def test_what_needs_no_extra(arguments: str) -> None:
    """The other commands work without the extra."""
    done = without_extra(*arguments.split())
    assert (done.returncode, done.stderr) == (0, "")


def test_lines_need_no_rich(tmp_path: Path) -> None:
    """Only a terminal needs rich, which takes its time: not a pipe."""
    path = tmp_path / "capture.pcap"
    packet = bytes.fromhex("4500001c000000004011 0000 c0000201 c0000202 00010002 0008 0000")
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    path.write_bytes(header + struct.pack("<IIII", 0, 0, 28, 28) + packet)
    code = "import sys; sys.modules['rich'] = None; from libnetfilterqueue.cli import main; main()"
    done = run(sys.executable, "-P", "-W", "error", "-c", code, "watch", "--read", str(path))
    assert done.stdout.endswith(" -      > IP 192.0.2.1.1 > 192.0.2.2.2: UDP, length 0\n")
    assert done.stderr == "1 packet\n1 packet shown\n"


def test_status_as_json_needs_no_extra() -> None:
    """`status --json` needs no extra, as far as the kernel reports at all."""
    done = without_extra("status", "--json")
    assert "libnetfilterqueue[cli]" not in done.stderr
    assert done.returncode == (1 if "root" in done.stderr else 0)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [("demo >&-", 0), ("watch 1 --write /missing/file >&- 2>&-", 1), ("watch 1 --write / 2>&-", 1)],
)
def test_closed_output(arguments: str, status: int) -> None:
    """With one output closed nothing goes to the other one either."""
    done = run("sh", "-c", f"{shlex.join(COMMAND)} {arguments}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_unused() -> None:
    """Importing the package imports nothing of the command line."""
    code = (
        "import sys, libnetfilterqueue;"
        "print({'argparse', 'dns', 'scapy', 'libnetfilterqueue.cli', 'prometheus_client', 'rich'}"
        " & set(sys.modules))"
    )
    assert run(sys.executable, "-P", "-W", "error", "-c", code).stdout == "set()\n"


def test_extra() -> None:
    """The extras that errors name are the package's."""
    extras = importlib.metadata.metadata("libnetfilterqueue").get_all("Provides-Extra")
    assert extras is not None
    assert {"cli", "metrics"} <= set(extras)
