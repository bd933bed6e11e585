# SPDX-License-Identifier: GPL-2.0-or-later
"""The project's pages, and a reader who does what their blocks say."""

import ast
import contextlib
import doctest
import io
import itertools
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import dns.message
import stand_ins
import yaml
from available import is_available
from capabilities import only
from markdown_it import MarkdownIt
from netns import TIMEOUT, UdpPair, private_namespace, run, tool_environment
from statuses import visible

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FILES = f"{PROJECT['urls']['Repository']}/blob/main/"  # where all of them are on the web
DIRECTIVES = {"{include}", "{toctree}"}  # of MyST, no code: `./dev docs` follows them
LANGUAGES = {".nft": "nft", ".py": "python", ".yaml": "yaml"}  # of files that pages include
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PATIENCE = 4 * TIMEOUT  # seconds that a command may take
VARYING = re.compile(
    r"( ?\.\.\. ?|(?<= 65531 )\d+|[\d:]{5,}(?:\.\d+)?|\d+\.\d+(?= s\b)|(?<=uid )\d+"
    r"|\d+(?= ACCEPT\b))"
)
CTRL_C = b"\x03"
ENDS = {0, -signal.SIGINT, 128 + signal.SIGINT}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A block of code."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if its first line says so."""
        match = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return match[1] if match else None

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, also those that say nothing of their language."""
    return [
        shown(Block(page, token.map[0] + 1, token.info, token.content))
        for token in MarkdownIt().parse(page.read_text())
        if token.type in {"fence", "code_block"} and token.map
    ]


def shown(block: Block) -> Block:
    """The block as readers see it: a file that stands elsewhere is shown whole."""
    directive, _, path = block.language.partition(" ")
    if directive != "{literalinclude}":
        return block
    file = block.page.parent / path
    language = LANGUAGES[file.suffix]
    return block._replace(language=language, text=f"# {file.name}\n{file.read_text()}")


def every_link(page: Path) -> list[str]:
    """What a page links or shows."""
    inline = [token for token in MarkdownIt().parse(page.read_text()) if token.type == "inline"]
    return [
        str(child.attrGet("href") or child.attrGet("src"))
        for token in inline
        for child in token.children or ()
        if child.type in {"link_open", "image"}
    ]


def links(page: Path) -> list[str]:
    """What a page links or shows of this repository.

    The README is read elsewhere too, so it has the addresses of files.
    """
    targets = (target.removeprefix(FILES) for target in every_link(page))
    return [target for target in targets if not re.match(r"\w+:", target)]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    tokens = MarkdownIt().parse(page.read_text())
    pairs = itertools.pairwise(tokens)
    headings = [text.content for heading, text in pairs if heading.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def definitions(text: str) -> str:
    """What later tests of a page may use of a program: its imports, functions and classes."""
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    nodes = [node for node in ast.parse(text).body if isinstance(node, kinds)]
    return "".join(f"{ast.unparse(node)}\n" for node in nodes)


def matches(expected: str, output: str) -> bool:
    """Whether that is the output, but for white space; `...` stands for anything.

    Times, and numbers as long as those of ports and processes, differ from one run to the next, and
    users from one reader to the next: packets have them in their last column but the verdict. A
    queue has had as many packets as were sent until one passed.
    """
    parts = VARYING.split(" ".join(expected.split()))
    pattern = "".join(
        re.escape(part) if number % 2 == 0 else ".*" if "..." in part else r"[\d:.]+"
        for number, part in enumerate(parts)
    )
    return re.fullmatch(pattern, " ".join(output.split())) is not None


def datagram(name: str) -> bytes:
    """Traffic, unlike any other: a query of DNS, since a filter lets nothing else pass."""
    return dns.message.make_query(f"{name}.example", "A").to_wire()


class Command:
    """A command that runs until it ends, or is interrupted by Ctrl-C at its terminal."""

    def __init__(
        self, command: Sequence[str], directory: Path, environment: dict[str, str]
    ) -> None:
        self._keys, terminal = pty.openpty()
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".output", delete=False) as file:
            self._file = Path(file.name)
            self._process = subprocess.Popen(
                ["setsid", "--ctty", *command],
                cwd=directory,
                env=environment,
                stdin=terminal,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        os.close(terminal)
        weakref.finalize(self, os.close, self._keys)

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._file.read_text()

    @property
    def ended(self) -> bool:
        """Whether it has ended, as it should."""
        if self._process.poll() is None:
            return False
        assert self._process.returncode in ENDS, self.output
        assert "Warning" not in self.output, self.output
        return True

    def interrupt(self) -> None:
        """Presses Ctrl-C, unless it has ended."""
        if not self.ended:
            os.write(self._keys, CTRL_C)
            self._process.wait(TIMEOUT)
            assert self.ended
            assert "Traceback" not in self.output, self.output

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Reader:
    """Does what a page says, in a directory and a network namespace of their own.

    There is a method for each language. Programs run in a process each, and a rule sends them
    datagrams through queue 1: one that does not end by itself has to let them pass, but for those
    that contain "forbidden" if its own text does. It runs on until the next one is started.
    """

    def __init__(self, directory: Path, udp: UdpPair) -> None:
        self._directory = directory
        self._commands = directory / "venv" / "bin"
        self._udp = udp
        self._udp.receiver.settimeout(0)
        self._later = ""  # what is still to be read
        self._known = ""  # what the programs so far have defined
        self._globals: dict[str, object] = {}  # those of Python's own shell
        self._program: Command | None = None  # the last one that did not end by itself
        self._output = ""  # of the last command that did
        self._hidden = False  # whether the last command was for real root, who we are not
        self._make_commands()
        (directory / "examples").symlink_to(ROOT / "examples")
        (directory / "dev").symlink_to(self._commands / "dev")

    def _make_commands(self) -> None:
        self._commands.mkdir(parents=True)
        # The name that all virtual environments have; it is seen in the table of queues.
        executable = Path(sys.executable).with_name("python")
        python = ["env", f"LD_PRELOAD={os.environ.get('LD_PRELOAD', '')}", executable]
        for name in stand_ins.COMMANDS:
            self._make_command(name, *python, stand_ins.__file__, name)
        self._make_command("python", *python)
        script = self._commands.parent / "libnetfilterqueue"
        script.write_text("from libnetfilterqueue.cli import main\n\nraise SystemExit(main())\n")
        self._make_command("libnetfilterqueue", *python, script)
        # Without those that are here for our own tests, which take longer than a page's tests.
        plugins = ("-p", "libnetfilterqueue.pytest_plugin", "-p", "no:cacheprovider")
        self._make_command("pytest", *only(), *python, "-m", "pytest", "-W", "error", *plugins)
        resolver = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
        (self._commands / "resolv.conf").write_text(resolver)

    def _make_command(self, name: str, *command: object) -> None:
        """Puts a command where shells look first."""
        path = self._commands / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, command))} "$@"\n')
        path.chmod(0o755)

    def read(self, page: Path) -> None:
        """Follows all of its blocks."""
        every = blocks(page)
        try:
            for number, block in enumerate(every, 1):
                self._later = "".join(later.text for later in every[number:])
                self.follow(block)
            self._interrupt()
        finally:
            if self._program is not None:
                self._program.kill()
        self._test()

    def follow(self, block: Block) -> None:
        """Does what a block says, by the method for its language; fails if there is none."""
        if block.language.partition(" ")[0] in DIRECTIVES:
            return
        try:
            getattr(self, f"_follow_{block.language}")(block)
        except BaseException as error:
            error.add_note(f"The block at {block.place}:\n{block.text}")
            raise

    # Languages

    def _follow_python(self, block: Block) -> None:
        """A program, a test, or a file of either kind.

        A program runs alone, beside the page's files. Later blocks may run or import a file; else
        it is run here. Tests are run at the end. One without a file may use what those blocks
        before it define that have none.
        """
        is_test = re.search(r"^def test_", block.text, re.MULTILINE)
        text = block.text
        if block.file is None:
            known = self._known if is_test else ""
            text = known + text
            self._known += definitions(block.text)
        kind = "test" if is_test else "program"
        path = self._directory / (block.file or f"{kind}_{block.line}.py")
        if is_available(text):
            path.write_text(text)
            if not is_test and not self._is_used_later(path.stem):
                self._interrupt()
                self._run(block, "python", "-W", "error", path.name)

    def _is_used_later(self, name: str) -> bool:
        """Whether a later block runs or imports the program of that name."""
        return bool(re.search(rf"\b(import {name}|python {name}\.py)\b", self._later))

    def _follow_pycon(self, block: Block) -> None:
        """A dialogue with Python's shell, one a page, in this process."""
        parser = doctest.DocTestParser()
        test = parser.get_doctest(block.text, {}, block.place, str(block.page), block.line)
        test.globs = self._globals
        report = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        result = runner.run(test, out=report.write, clear_globs=False)
        assert result.attempted > 0
        assert result.failed == 0, report.getvalue()

    def _follow_sh(self, block: Block) -> None:
        """Commands for a shell; those who start a program need the terminal that one is in."""
        if re.search(r"\bpython3?\b|\blibnetfilterqueue watch\b", block.text):
            self._interrupt()
        for_root = re.search(r"\blibnetfilterqueue (status|metrics)\b", block.text)
        self._hidden = bool(for_root) and not visible()
        if self._hidden:
            return
        mount = 'mount --bind "$0" /etc/resolv.conf; exec sh -e -c "$1"'
        resolver = str(self._commands / "resolv.conf")
        self._run(block, "unshare", "--mount", "sh", "-e", "-c", mount, resolver, block.text)

    def _follow_text(self, block: Block) -> None:
        """What the last command has printed, or the program that runs."""
        if self._hidden:
            return
        end = time.monotonic() + TIMEOUT
        while not any(matches(block.text, output) for output in self._outputs()):
            assert self._program, f"Printed was\n{self._output}"
            assert time.monotonic() < end, "\n--\n".join(("Printed was", *self._outputs()))
            time.sleep(0.01)

    def _follow_ini(self, block: Block) -> None:
        """A unit of systemd's."""
        # The program is installed nowhere.
        text = re.sub(r"(?m)(?<=^ExecStart=)\S+", sys.executable, block.text)
        unit = self._write(block, text)
        command = ["systemd-analyze", "verify", "--man=no", str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def _follow_iptables(self, block: Block) -> None:
        """A file for iptables-restore: it loads where no rules are. Its name says which IP."""
        path = self._write(block, block.text)
        command = "ip6tables-restore" if path.suffix == ".v6" else "iptables-restore"
        with private_namespace():
            run(f"{command} {path}")

    def _follow_nft(self, block: Block) -> None:
        """A file for nft: it loads where no rules are, also twice.

        Not every kernel has nft's `queue`; tests/vm loads the file as it is.
        """
        path = self._write(block, re.sub(r"\bqueue (flags|to|num)\b.*", "accept", block.text))
        with private_namespace():
            run(f"nft -f {path}")
            run(f"nft -f {path}")

    def _follow_yaml(self, block: Block) -> None:
        """A file of YAML; `./dev lint` asks whether it follows its schema."""
        assert yaml.safe_load(self._write(block, block.text).read_text())

    def _write(self, block: Block, text: str) -> Path:
        """The file that the block is."""
        assert block.file is not None
        path = self._directory / block.file
        path.write_text(text)
        return path

    # What runs

    def _run(self, block: Block, *words: str) -> None:
        """Runs a command until it ends, or lets datagrams pass and so will not."""
        path = f"{self._commands}:{tool_environment()['PATH']}"
        environment = {**tool_environment(), **ENVIRONMENT, "PATH": path}
        command = Command(words, self._directory, environment)
        traffic = [datagram("passing")] if self._program is None else []
        if traffic and "forbidden" in block.text:
            traffic.insert(0, datagram("forbidden"))
        try:
            ended = self._ends(command, *traffic)
            if "--count" in block.text:  # it ends by itself, and other commands may follow
                ended = self._ends(command)
        except BaseException:
            command.kill()
            raise
        if ended:
            self._output = command.output
        else:
            self._program = command

    def _ends(self, command: Command, *traffic: bytes) -> bool:
        """Waits until it has ended; returns False if the traffic passes before."""
        end = time.monotonic() + PATIENCE
        while not command.ended:
            if traffic and self._passes(*traffic):
                return False
            assert time.monotonic() < end, command.output
            time.sleep(0.01)
        return True

    def _passes(self, *traffic: bytes) -> bool:
        """Whether the last of the datagrams passes through queue 1; those before it must not."""
        for data in traffic:
            with contextlib.suppress(PermissionError):  # it was dropped at once
                self._udp.send(data)
        time.sleep(0.01)
        arrived = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                arrived.add(self._udp.recv())
        assert arrived.isdisjoint(traffic[:-1])
        return traffic[-1] in arrived

    def _interrupt(self) -> None:
        """Ends the program that runs."""
        if self._program is not None:
            self._program.interrupt()
            self._output = self._program.output
            self._program = None

    def _outputs(self) -> list[str]:
        running = [self._program.output] if self._program else []
        return [*running, self._output]

    def _test(self) -> None:
        """Runs all tests of the page, as somebody without any privilege."""
        files = sorted(self._directory.glob("test_*.py"))
        if files:
            tests = sum(len(re.findall(r"(?m)^def test_", file.read_text())) for file in files)
            done = subprocess.run(
                [self._commands / "pytest", *files],
                cwd=self._directory,
                env={**os.environ, **ENVIRONMENT},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            passed = re.search(r"(\d+) passed", done.stdout)
            assert done.returncode == 0, done.stdout + done.stderr
            assert passed is not None
            assert int(passed[1]) >= tests, done.stdout
