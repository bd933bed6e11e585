# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue rules`: what it prints is loaded, and queues what it is to queue."""

import re
import shlex
import shutil
import subprocess

import pytest
from capabilities import only
from netns import TIMEOUT, Namespace, iptables, run, tool_environment
from programs import COMMAND
from queued_traffic import (
    CASES,
    FORWARD,
    Case,
    check_bypass,
    check_case,
    check_fanout,
    check_forward,
    each_case,
    printed_commands,
)
from queues import Handle

from libnetfilterqueue.cli import main
from libnetfilterqueue.cli._found_rules import nft_rules
from libnetfilterqueue.cli._tools import find_tool

NFT = shutil.which("nft", path=tool_environment()["PATH"])  # not everywhere that tests run


def rules(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """What `rules` prints, line by line."""
    assert main(["rules", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


@each_case
def test_iptables(case: Case, handle: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    """The rules of iptables queue the traffic, and no other."""
    check_case(case, printed_commands(case.arguments, "iptables", capsys), handle)


def test_forward(handle: Handle, netns: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    """So does the rule for what is forwarded from one device to another."""
    check_forward(printed_commands(FORWARD, "iptables", capsys), handle, netns)


def test_fanout(handle: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    """Several queues share packets by processor."""
    commands = printed_commands("--proto udp --fanout", "iptables", capsys, queue="1-4")
    check_fanout(commands, handle)


@pytest.mark.parametrize(("option", "arrived"), [("", []), ("--bypass", [b"data"])])
def test_bypass(option: str, arrived: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    """While nobody listens packets are dropped; with --bypass they pass."""
    arguments = f"--sport 9998 --proto udp --hook input {option}"
    check_bypass(printed_commands(arguments, "iptables", capsys), arrived)


@pytest.mark.parametrize(
    "arguments",
    [*(case.arguments for case in CASES), FORWARD, "--fanout", "--fanout --bypass --mark 5"],
)
def test_nft(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """nft accepts its rules, as far as this kernel can queue by nft; tests/vm loads them."""
    commands = printed_commands(arguments, "nft", capsys, queue="1-4")
    assert all(command.startswith("nft ") for command in commands)
    if NFT is None:
        return
    script = "\n".join(" ".join(shlex.split(command)[1:]) for command in commands)
    done = subprocess.run(
        [NFT, "-c", "-f", "-"], input=script, capture_output=True, text=True, check=False
    )
    errors = done.stderr.splitlines()
    # Its errors are three lines: what is wrong, a line of the script, and marks below a part of it.
    for message, line, marks in zip(errors[::3], errors[1::3], errors[2::3], strict=True):
        marked = line[marks.index("^") : marks.rindex("^") + 1]
        assert message.endswith("Error: Could not process rule: No such file or directory")
        assert re.fullmatch(r"queue .*to 1-4", marked)
    assert done.returncode == (1 if errors else 0)


def test_both_tools(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --tool there are the commands of both, in a form that shells read."""
    arguments = ["--queue", "1", "--uid", "7", "--out", "eth0"]
    lines = rules(capsys, *arguments)
    assert lines == [
        "# iptables:",
        "iptables -A OUTPUT -o eth0 -m owner --uid-owner 7 -j NFQUEUE --queue-num 1",
        "ip6tables -A OUTPUT -o eth0 -m owner --uid-owner 7 -j NFQUEUE --queue-num 1",
        "",
        "# nft:",
        "nft add table inet nfqueue",
        "nft add chain inet nfqueue output '{ type filter hook output priority filter; }'",
        "nft add rule inet nfqueue output 'oifname \"eth0\" meta skuid 7 queue to 1'",
    ]


def test_found(capsys: pytest.CaptureFixture[str]) -> None:
    """The rules that name a queue are listed as commands, and others are not."""
    added = [
        "iptables -A OUTPUT -p udp -m udp --dport 53 -j NFQUEUE --queue-num 1 --queue-bypass",
        "iptables -t mangle -A PREROUTING -m comment --comment '\"$c' -j NFQUEUE --queue-num 0",
        "ip6tables -t raw -A OUTPUT -o lo -j NFQUEUE --queue-balance 1:65534",
    ]
    for command in [*added, "iptables -A INPUT -m comment --comment NFQUEUE -j ACCEPT"]:
        run(command)
    heading, *lines = rules(capsys)
    assert heading == "  queue  rule"
    assert sorted(lines) == sorted(
        f"{queue:>7}  {command}"
        for queue, command in zip(["1", "0", "1-65534"], added, strict=True)
    )


def test_none_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Without such a rule there is a line that says so."""
    iptables("-A INPUT -j ACCEPT")
    assert rules(capsys) == ["no rule names a queue"]


RULESET = """\
table ip filter {
	chain OUTPUT {
		type filter hook output priority filter; policy accept;
		udp dport 53 counter packets 0 bytes 0 queue num 1 bypass
	}
}
# Warning: table ip6 filter is managed by iptables-nft, do not touch!
table ip6 filter {
	chain OUTPUT {
		meta l4proto udp xt target "NFQUEUE"
	}
}
table inet mine {
	map queues {
		type inet_service : verdict
		elements = { 1 : accept,
			2 : drop }
	}
	chain only {
		type filter hook input priority filter; policy accept;
		tcp dport { 80, 443 } queue flags bypass,fanout to 1-4
		udp dport 53 queue to 7 comment "it's DNS"
		meta mark 5 queue num 3
		udp dport 54 queue to udp sport map { 1 : 1, 2 : 2 }
		udp dport 55 accept comment "no queue 5"
	}
}
"""


def test_found_by_nft() -> None:
    """Of nft's rules those are found that name a queue, except in what iptables has listed."""
    assert list(nft_rules(RULESET, without={"ip filter"})) == [
        (
            "1-4",
            "nft add rule inet mine only 'tcp dport { 80, 443 } queue flags bypass,fanout to 1-4'",
        ),
        ("7", """nft add rule inet mine only 'udp dport 53 queue to 7 comment "it'"'"'s DNS"'"""),
        ("3", "nft add rule inet mine only 'meta mark 5 queue num 3'"),
        (
            "?",
            "nft add rule inet mine only 'udp dport 54 queue to udp sport map { 1 : 1, 2 : 2 }'",
        ),
    ]
    assert next(nft_rules(RULESET, without=set())).queues == "1"


@pytest.mark.parametrize("missing", ["nft", "iptables", "all"])
def test_missing_tools(
    missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that is missing is named; without any it is an error."""
    gone = {"nft": "nft", "iptables": "ip", "all": ""}[missing]

    def find_rest(name: str) -> str | None:
        return None if name.startswith(gone) else find_tool(name)

    monkeypatch.setattr("libnetfilterqueue.cli._found_rules.find_tool", find_rest)
    status = main(["rules"])
    output, errors = capsys.readouterr()
    if missing == "all" or (missing == "iptables" and NFT is None):
        assert (status, output) == (1, "")
        assert "there is neither iptables nor nft" in errors
    else:
        assert (status, output) == (0, "no rule names a queue\n")
        assert errors == f"libnetfilterqueue rules: there is no {missing} to list its rules\n"


def test_without_privileges() -> None:
    """Who may not see the rules is told so."""
    done = subprocess.run(
        [*only(), *COMMAND, "rules"], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"libnetfilterqueue rules: \S+ failed: .*you must be root.*\n", done.stderr)
