# SPDX-License-Identifier: GPL-2.0-or-later
"""Every test runs in a network namespace of its own, as root of it."""

import asyncio
import gc
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asynchronous import contexts, nothing_left, stream  # noqa: F401 (fixtures)
from available import FASTAPI, GEVENT, NEW_LOOPS, PROMETHEUS
from clients import listener  # noqa: F401 (a fixture)
from clocks import clock  # noqa: F401 (a fixture)
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from netns import Namespace, NamespaceError, UdpPair, isolate, private_namespace, queue_rule
from segments import family, route  # noqa: F401 (fixtures)
from statuses import visible

import libnetfilterqueue as nfq

# What imports gevent; single tests that need it are marked.
NEED_GEVENT = ["test_green.py", "test_patched.py", "test_pending_greenlets.py", "test_switching.py"]
collect_ignore = [] if GEVENT else [*NEED_GEVENT]
if not FASTAPI:
    collect_ignore += ["test_example_fastapi.py"]
if "libasan" in os.environ.get("LD_PRELOAD", ""):  # it replaces malloc itself
    collect_ignore += ["test_without_memory.py"]
if sys.version_info < (3, 12):  # all interpreters of a process share one GIL
    collect_ignore += ["test_subinterpreters.py"]

if not (Path(__file__).parent.parent / ".git").exists():  # what it is made from
    collect_ignore += ["test_sdist.py"]

# A shell that runs us in the background has it ignored, also by the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

set_hypothesis_home_dir(Path(__file__).parent.parent / "build" / "hypothesis")
# The same examples each time, and few; `./dev fuzz` looks for others. What goes before each test
# goes before all of its examples.
settings.register_profile(
    "suite",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="run the tests in the order of this seed")
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def _runs_whole_suite(config: pytest.Config) -> bool:
    """No file and no test is named."""
    return config.args == config.getini("testpaths") and not config.getoption("keyword")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Named tests run in this process: workers take seconds to start."""
    return len(os.sched_getaffinity(0)) if _runs_whole_suite(config) else 0


def _has_what_it_needs(item: pytest.Item) -> bool:
    has = {"gevent": lambda: GEVENT, "prometheus": lambda: PROMETHEUS, "table": visible}
    return all(there() for name, there in has.items() if item.get_closest_marker(name))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gevent: needs gevent")
    config.addinivalue_line("markers", "prometheus: needs Prometheus and its node exporter")
    config.addinivalue_line("markers", "table: needs the kernel's table, which root may read")
    config.addinivalue_line("markers", "slow: runs with --slow, or when it is named")
    try:
        isolate()
    except NamespaceError as error:
        pytest.exit(str(error), returncode=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = filter(_has_what_it_needs, items)
    if _runs_whole_suite(config) and not config.getoption("slow"):
        config.hook.pytest_deselected(
            items=[item for item in items if item.get_closest_marker("slow")]
        )
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    if seed := config.getoption("shuffle"):
        random.Random(seed).shuffle(items)


@pytest.hookimpl(optionalhook=True)  # an older pytest-asyncio has none: its tests run in one loop
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Each asynchronous test runs on every loop that is asyncio's."""
    return NEW_LOOPS


@pytest.fixture(autouse=True)
def netns() -> Iterator[Namespace]:
    """The private network namespace that the test runs in."""
    with private_namespace() as namespace:
        yield namespace


@pytest.fixture
def udp() -> Iterator[UdpPair]:
    """Datagrams over loopback that pass through queue 1."""
    queue_rule(1)
    with UdpPair() as pair:
        yield pair


@pytest.fixture
def handle() -> Iterator[nfq.NetfilterQueueHandle]:
    """An open handle."""
    with nfq.open() as handle:
        yield handle


@pytest.fixture
def little_garbage() -> Iterator[None]:
    """Collections are quick: they look at nothing that was there before the test."""
    gc.freeze()
    yield
    gc.unfreeze()
