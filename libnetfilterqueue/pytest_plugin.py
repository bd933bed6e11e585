# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest fixtures that libnetfilterqueue brings. They cost nothing where they are not used."""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from libnetfilterqueue.testing import Kernel

FAILED = pytest.StashKey[bool]()  # of tests whose function has raised
FIXTURES = ("nfqueue", "nfqueue_real")
MARKER = """nfqueue(allow_undecided=False, allow_open=False, allow_refused=False, \
allow_unbound=False, allow_unheard=False): what a test with the fixture nfqueue may leave behind"""


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line("markers", MARKER)


def _allowed(item: pytest.Item) -> set[str]:
    """What the test's markers allow; one that is nearer to the test goes before others."""
    from libnetfilterqueue.testing._complaints import check_allowed  # noqa: PLC0415

    given: dict[str, object] = {}
    for marker in item.iter_markers("nfqueue"):
        if marker.args:
            raise TypeError("@pytest.mark.nfqueue takes keywords")
        given = {**marker.kwargs, **given}
    return check_allowed("@pytest.mark.nfqueue", given)


def _complaints(item: pytest.Item, kernel: "Kernel", *others: str) -> str:
    """What is left of the test; empty if that is nothing, or allowed. The others are, too."""
    from libnetfilterqueue.testing._complaints import describe  # noqa: PLC0415

    allowed = _allowed(item).union(others)
    return describe(found for found in kernel._complaints() if found.allowed_by not in allowed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that has failed has that told once; what is left of it may say why."""
    report = yield
    if call.when == "call" and call.excinfo is not None:
        item.stash[FAILED] = True
        arguments = getattr(item, "funcargs", {})
        for kernel in (arguments[name] for name in FIXTURES if report.failed and name in arguments):
            # What was not done any more is no reason, what nobody has heard of may be.
            text = _complaints(item, kernel, "allow_undecided", "allow_open")
            report.sections += [("nfqueue", text)] if text else []
    return report


def _strict(request: pytest.FixtureRequest, kernel: "Kernel") -> "Iterator[Kernel]":
    """Fails the test at its end for what it leaves behind."""
    _allowed(request.node)  # an error in a marker is told at once
    with kernel, kernel.patched():
        yield kernel
        if not request.node.stash.get(FAILED, False) and (
            text := _complaints(request.node, kernel)
        ):
            pytest.fail(text, pytrace=False)


def _fake() -> "Kernel":
    from libnetfilterqueue.testing import FakeKernel  # noqa: PLC0415 (most tests do without)

    return FakeKernel()


def _real() -> "Kernel":
    from libnetfilterqueue.testing import RealKernel, UnavailableError  # noqa: PLC0415

    try:
        return RealKernel()
    except UnavailableError as error:
        pytest.skip(f"nfqueue_real: {error}")


KERNELS = {"fake": _fake, "real": _real}


@pytest.fixture
def nfqueue(request: pytest.FixtureRequest) -> "Iterator[Kernel]":
    """A fake kernel, on which ``libnetfilterqueue.open()`` opens its handles.

    Its parameter, if it has one, is ``"fake"`` or ``"real"``. See docs/testing.md.

    >>> def test_callback(nfqueue):
    ...     assert nfqueue.decide(callback, b"what is forbidden").verdict == nfq.NF_DROP
    """
    name = getattr(request, "param", "fake")
    if name not in KERNELS:
        raise ValueError(f'the parameter of nfqueue must be "fake" or "real", not {name!r}')
    yield from _strict(request, KERNELS[name]())


@pytest.fixture
def nfqueue_real(request: pytest.FixtureRequest) -> "Iterator[Kernel]":
    """The real kernel's queues in a namespace of the test's own, with all that ``nfqueue`` has.

    The test is skipped where the system forbids that. See docs/testing.md.

    >>> def test_callback(nfqueue_real):
    ...     assert nfqueue_real.decide(callback, packet).passed
    """
    yield from _strict(request, _real())
