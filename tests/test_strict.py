# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fixture nfqueue says at the end of a test that leaves something behind."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from available import GEVENT, UVLOOP
from pytests import run_pytest
from queues import accept

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel

HEADER = """
import asyncio
import threading

import pytest
import trio

import libnetfilterqueue as nfq
from libnetfilterqueue import aio
from libnetfilterqueue.testing import FakeKernel

kept = []


def broken(packet):
    raise RuntimeError("a bug in the filter")


async def broken_handler(packet):
    broken(packet)
"""


ENDED = "its queue ended before it had a verdict"


class Case(NamedTuple):
    """A test's function, and what is said of it after its title; nothing if it is to pass."""

    text: str
    said: str = ""
    marker: str = ""
    """What allows it."""


def serving(loop: str) -> Case:
    """A handler that raises, in a loop."""
    return Case(
        f"""
    import {loop}

    async def main():
        async with aio.open_queue(1) as stream:
            serving = asyncio.create_task(aio.serve(stream, broken_handler))
            packet = await nfqueue.enqueue(b"data")
            assert not packet.passed
            serving.cancel()

    {loop}.run(main())
""",
        """
  unheard: Exception in the handler of a packet: \
RuntimeError('a bug in the filter') at test_cases.py:BROKEN
""",
        "allow_unheard=True",
    )


CASES = {
    "waits": Case(
        """
    handle = nfq.open()
    handle.create_queue(1, kept.append)
    nfqueue.enqueue(b"data")
    handle.process()
""",
        """
  undecided: packet 1 of queue 1 (b'data') waits for a verdict
  open: the handle that was opened at test_cases.py:LINE
""",
        "allow_undecided=True, allow_open=True",
    ),
    "closed": Case(
        """
    with nfq.open() as handle:
        handle.create_queue(2, kept.append)
        packet = nfqueue.enqueue(b"data" * 100, 2)
        handle.process()
    assert not packet.passed
""",
        """
  undecided: packet 1 of queue 2 (b'datadatadatadatadatadatadatadata'...): \
its queue ended before it had a verdict
""",
        "allow_undecided=True",
    ),
    "many": Case(
        """
    with nfq.open() as handle:
        handle.create_queue(1, kept.append)
        nfqueue.enqueue_all([b""] * 12)
        handle.process()
""",
        "\n"
        + "".join(f"  undecided: packet {n} of queue 1 (b''): {ENDED}\n" for n in range(1, 6))
        + "  undecided: and 7 more\n",
        "allow_undecided=True",
    ),
    "another_number": Case(
        """
    with nfq.open() as handle:
        handle.create_queue(1, nfq.Packet.accept)
        packet = nfqueue.enqueue(b"data", 2)
        assert not packet.passed
""",
        """
  unbound: a packet of queue 2 (b'data'): nobody has bound queue 2
""",
        "allow_unbound=True",
    ),
    "requeued": Case(
        """
    assert not nfqueue.decide(lambda packet: packet.requeue(7), b"data").passed
""",
        """
  unbound: a packet of queue 7 (b'data'): nobody has bound queue 7
""",
        "allow_unbound=True",
    ),
    "refused": Case(
        """
    with nfq.open() as handle:
        handle.create_queue(1, kept.append)
        packet = nfqueue.enqueue(b"data")
        handle.process()
        nfqueue.flush(packet)
        kept.pop().accept()
""",
        """
  refused: a verdict on packet 1 of queue 1: ENOENT (No such file or directory)
""",
        "allow_refused=True",
    ),
    "without_privileges": Case(
        """
    with nfq.open() as handle:
        handle.create_queue(1, nfq.Packet.accept)
        nfqueue.enqueue(b"data")
        nfqueue.net_admin = False
        handle.process()
        nfqueue.queues
        nfqueue.net_admin = True
""",
        """
  undecided: packet 1 of queue 1 (b'data'): its queue ended before it had a verdict
  refused: a verdict on packet 1 of queue 1: EPERM (Operation not permitted)
""",
        "allow_undecided=True, allow_refused=True",
    ),
    "handler": serving("asyncio"),
    "handler_in_uvloop": serving("uvloop"),
    "callback_in_a_loop": Case(
        """
    async def main():
        with nfq.open() as handle, aio.attach(handle):
            handle.create_queue(1, broken)
            assert not (await nfqueue.enqueue(b"data")).passed

    asyncio.run(main())
""",
        """
  unheard: Exception in a callback of a netfilter queue: \
RuntimeError('a bug in the filter') at test_cases.py:BROKEN
""",
        "allow_unheard=True",
    ),
    "task": Case(
        """
    async def program():
        async with aio.open_queue(1) as stream:
            async for packet in stream:
                packet.drop()
                broken(packet)

    async def main():
        running = asyncio.create_task(program(), name="program")
        await nfqueue.listening(1)
        assert not (await nfqueue.enqueue(b"data")).passed
        kept.append(running)

    asyncio.run(main())
""",
        """
  unheard: Task 'program' (test_task.<locals>.program): \
RuntimeError('a bug in the filter') at test_cases.py:BROKEN
""",
        "allow_unheard=True",
    ),
    "thread": Case(
        """
    def program():
        with nfq.open() as handle:
            handle.create_queue(1, broken)
            handle.process(timeout=None)

    thread = threading.Thread(target=program, name="the program")
    thread.start()
    nfqueue.listening(1).wait()
    assert not nfqueue.enqueue(b"data").wait().passed
    thread.join()
""",
        """
  unheard: thread the program failed: RuntimeError('a bug in the filter')
""",
        "allow_unheard=True",
    ),
    "second_exception": Case(
        """
    with nfq.open() as handle:
        handle.create_queue(1, broken)
        nfqueue.enqueue_all([b"1", b"2"])
        with pytest.raises(RuntimeError):
            handle.process()
""",
        """
  unheard: Exception in broken(): RuntimeError('a bug in the filter') at test_cases.py:BROKEN
""",
        "allow_unheard=True",
    ),
    "greenlet": Case(
        """
    import gevent
    from libnetfilterqueue import green

    with green.open_queue(1) as stream:
        serving = gevent.spawn(green.serve, stream, broken)
        assert not nfqueue.enqueue(b"data").wait().passed
    serving.get()
""",
        """
  unheard: Exception in a greenlet: \
RuntimeError('a bug in the filter') at test_cases.py:BROKEN
""",
        "allow_unheard=True",
    ),
    # What is right
    "decided": Case(
        """
    with nfq.open() as handle:
        handle.create_queue(1, nfq.Packet.accept)
        packet = nfqueue.enqueue(b"data")
        handle.process()
    assert packet.decided
"""
    ),
    "expected": Case(
        """
    assert not nfqueue.enqueue(b"data", 3, allow_unbound=True).passed
    assert all(packet.passed for packet in nfqueue.enqueue_all(
        [b"1", b"2"], 3, bypass=True, allow_unbound=True))
"""
    ),
    "heard": Case(
        """
    with pytest.raises(RuntimeError):
        nfqueue.decide(broken, b"data")

    async def main():
        heard = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: heard.append(context["exception"]))
        async with aio.open_queue(1) as stream:
            serving = asyncio.create_task(aio.serve(stream, broken_handler))
            await nfqueue.enqueue(b"data")
            serving.cancel()
        failing = asyncio.create_task(broken_handler(None))
        with pytest.raises(RuntimeError):
            await failing
        assert len(heard) == 1

    asyncio.run(main())
"""
    ),
    "thread_that_exits": Case(
        """
    thread = threading.Thread(target=exit)
    thread.start()
    thread.join()
"""
    ),
}
if not GEVENT:
    del CASES["greenlet"]
if not UVLOOP:
    del CASES["handler_in_uvloop"]

FAILING = """
def test_failing(nfqueue):
    async def main():
        async with aio.open_queue(1) as stream:
            serving = asyncio.create_task(aio.serve(stream, broken_handler))
            packet = await nfqueue.enqueue(b"data")
            handle = nfq.open()
            try:
                assert packet.passed
            finally:
                serving.cancel()

    asyncio.run(main())


def test_skipped(nfqueue):
    handle = nfq.open()
    pytest.skip("later")


@pytest.mark.nfqueue(allow_waiting=True)
def test_other_name(nfqueue):
    pass


@pytest.mark.nfqueue(allow_open=1)
def test_no_bool(nfqueue):
    pass


@pytest.mark.nfqueue("allow_open")
def test_no_keyword(nfqueue):
    pass


@pytest.mark.nfqueue(allow_open=True, allow_undecided=True)
class TestMarked:
    @pytest.mark.nfqueue(allow_open=False)
    def test_nearest(self, nfqueue):
        handle = nfq.open()
        handle.create_queue(1, kept.append)
        nfqueue.enqueue(b"data")
        kept.append(handle)
"""


def function(name: str, text: str, marker: str = "") -> str:
    decorator = f"@pytest.mark.nfqueue({marker})\n" if marker else ""
    return f"\n\n{decorator}def test_{name}(nfqueue):{text}"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of all cases, once without what allows them and once with it."""
    directory = tmp_path_factory.mktemp("cases")
    text = HEADER
    for name, case in CASES.items():
        text += function(name, case.text)
        if case.marker:
            text += function(f"{name}_allowed", case.text, case.marker)
    (directory / "test_cases.py").write_text(text + "\n\n" + FAILING)
    return run_pytest(directory, "-W", "ignore").stdout


def section(report: str, title: str) -> str:
    """What stands under a title of pytest's, without numbers that are different each time."""
    found = re.search(
        rf"^_+ {title} _+\n(.*?)(?=^_{{5}}|^={{5}})", report, re.MULTILINE | re.DOTALL
    )
    assert found, report
    return found[1]


def outcomes(report: str, name: str) -> list[str]:
    """PASSED, and perhaps ERROR."""
    return re.findall(rf"::test_{name} (\w+)", report.partition("= ERRORS =")[0])


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].said])
def test_complaint(report: str, name: str) -> None:
    """The test has passed; at its end the fixture says what is left, and how to allow it."""
    case = CASES[name]
    assert outcomes(report, name) == ["PASSED", "ERROR"]
    said = section(report, f"ERROR at teardown of test_{name}").partition("\n---")[0].rstrip()
    lines = HEADER.splitlines()
    line = lines.index('    raise RuntimeError("a bug in the filter")') + 1
    said = re.sub(rf"(?<=test_cases.py:){line}\b", "BROKEN", said)
    said = re.sub(r"(?<=test_cases.py:)\d+", "LINE", said)
    assert said == (
        f"nfqueue: this is left of the test:{case.said}"
        f"If that is meant to be: @pytest.mark.nfqueue({case.marker})"
    )


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].said])
def test_allowed(report: str, name: str) -> None:
    """A marker allows it by name."""
    assert outcomes(report, f"{name}_allowed") == ["PASSED"]


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].said])
def test_right(report: str, name: str) -> None:
    """Nothing is said of a test that leaves nothing, or that says what it expects."""
    assert outcomes(report, name) == ["PASSED"]


def test_failing(report: str) -> None:
    """A test that fails has that told once, with the exception that may be the reason."""
    assert outcomes(report, "failing") == ["FAILED"]
    said = section(report, "test_failing")
    assert "assert packet.passed" in said
    assert "unheard: Exception in the handler of a packet: RuntimeError('a bug in the" in said
    assert "\n  open:" not in said
    assert outcomes(report, "skipped") == ["SKIPPED"]


def test_markers(report: str) -> None:
    """The nearest marker counts, and a wrong one is told before the test runs."""
    said = section(report, "ERROR at teardown of TestMarked.test_nearest")
    assert re.findall(r"^  (\w+):", said, re.MULTILINE) == ["open"]
    for name, message in {
        "other_name": "TypeError: @pytest.mark.nfqueue: nothing that can be allowed is named "
        "'allow_waiting': they are allow_",
        "no_bool": "TypeError: @pytest.mark.nfqueue: allow_open must be a bool, not int: 1",
        "no_keyword": "TypeError: @pytest.mark.nfqueue takes keywords",
    }.items():
        assert outcomes(report, name) == ["ERROR"]
        assert message in section(report, f"ERROR at setup of test_{name}")


def test_registered(tmp_path: Path) -> None:
    """The marker is one that --strict-markers knows, and --markers explains."""
    said = run_pytest(tmp_path, "--markers").stdout
    assert "@pytest.mark.nfqueue(allow_undecided=False, allow_open=False" in said


def test_check() -> None:
    """Without pytest's fixture a kernel is asked."""
    with FakeKernel() as kernel:
        kernel.check()
        with kernel.open() as handle:
            handle.create_queue(1, accept)
            kernel.enqueue(b"data")
            where = f"test_strict.py:{sys._getframe().f_lineno - 3}"
            with pytest.raises(AssertionError, match=rf"  open: the handle .* at {where}\n"):
                kernel.check(allow_undecided=True)
            kernel.check(allow_undecided=True, allow_open=True)
            with pytest.raises(TypeError, match="'allow_opened': do you mean 'allow_open'"):
                kernel.check(allow_opened=True)
            handle.process()
        kernel.check()
        with nfq.open():  # it is not this kernel's
            kernel.check()
