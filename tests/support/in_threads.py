# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin of pytest's that runs each test in several threads at once: -p in_threads --threads N.

Each thread has a network namespace, a handle and a pair of sockets of its own. Left out is what
needs the main thread or the process for itself: tests with fixtures that are not among these,
asynchronous ones, and those of `ALONE`.
"""

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from netns import UdpPair, background, private_namespace, queue_rule

import libnetfilterqueue as nfq

SECONDS = 240.0  # for all threads; they wait for each other, and for sanitizers

ALONE = frozenset(
    {
        # They look at the process's memory, threads, descriptors and children, change its
        # groups, or take all processors.
        "test_aio",
        "test_all_descriptors_closed",
        "test_autoflush",
        "test_callers",
        "test_close",
        "test_collecting",
        "test_concurrency",
        "test_descriptors",
        "test_destroyed_while_it_is_settled",
        "test_examples",
        "test_exit",
        "test_fork",
        "test_forked_descriptors",
        "test_importing",
        "test_kept",
        "test_keeping",
        "test_kept_cost",
        "test_leaks",
        "test_loops",
        "test_overload",
        "test_real_kernel",
        "test_privileges",
        "test_reentrancy",
        "test_switching",
        "test_threads",
        "test_no_such_path",
        "test_no_namespace",
        "test_path_that_raises",
        "test_negative_descriptor",
        "test_wrong_type",
        "test_bad_descriptor",
        "test_with_fd",
        "test_balance_over_processes",
        "test_hidden",
        "test_nothing_left",
        "test_number_is_free_once_its_queue_is_destroyed",
        # Warnings, signal handlers, hooks and what is patched are the process's.
        "test_docstrings",
        "test_interrupted",
        "test_no_room_for_a_verdict",
        "test_programs",
        "test_signal_before_the_wait",
        "test_trio",
        "test_trio_serve",
        "test_fuzz_calls",
        "test_fuzz_messages",
        "test_leaving",
        "test_patched_open",
        "test_dropped_open_handle",
        "test_cycles_are_collected",
        "test_packet_outlives",
        "test_reference_cycle",
        "test_signal_handler_raises",
        "test_size_of_the_receive_buffer",
        "test_signal_handler_returns",
        # pydoc walks a class's dictionary, to which another thread may add what it caches there.
        "test_help",
    }
)


@contextlib.contextmanager
def udp() -> Iterator[UdpPair]:
    """What the fixture of that name gives."""
    queue_rule(1)
    with UdpPair() as pair:
        yield pair


FIXTURES: dict[str, Callable[[], AbstractContextManager[Any]]] = {"udp": udp, "handle": nfq.open}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=4, help="how many threads run each test")


def is_fixture(item: pytest.Function, name: str) -> bool:
    """Whether a fixture gives what a parameter of that name is."""
    return bool(item.session._fixturemanager.getfixturedefs(name, item))


def arguments_of(item: pytest.Function) -> dict[str, object] | None:
    """The arguments of a test that are not made for each thread; None if it has to be left out."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    names = inspect.signature(item.obj).parameters
    fit = all(
        (name in parameters and not is_fixture(item, name)) or name in FIXTURES or name == "netns"
        for name in names
    )
    if ALONE & {item.path.stem, item.originalname} or not fit:
        return None
    if item.get_closest_marker("usefixtures"):
        return None
    if inspect.iscoroutinefunction(item.obj):
        return None
    return {name: parameters[name] for name in names if name in parameters}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves tests out."""
    fit = [
        item
        for item in items
        if isinstance(item, pytest.Function) and arguments_of(item) is not None
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in fit])
    items[:] = fit


def run(item: pytest.Function, barrier: threading.Barrier) -> None:
    """Runs a test in the calling thread, when the others do."""
    arguments = arguments_of(item)
    assert arguments is not None
    with private_namespace() as namespace, contextlib.ExitStack() as stack:
        try:
            for name in inspect.signature(item.obj).parameters:
                if name == "netns":
                    arguments[name] = namespace
                elif name in FIXTURES:
                    arguments[name] = stack.enter_context(FIXTURES[name]())
        except BaseException:
            barrier.abort()  # nobody waits for this thread
            raise
        barrier.wait(SECONDS)
        item.obj(**arguments)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Runs it in threads, and raises what one of them has raised."""
    count = pyfuncitem.config.getoption("threads")
    barrier = threading.Barrier(count)
    futures = [background(run, pyfuncitem, barrier) for _ in range(count)]
    errors = [error for future in futures if (error := future.exception(SECONDS))]
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    assert not errors
    return True
