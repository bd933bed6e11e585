#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks for examples that break what tests promise, for as long as it is told.

    fuzz_python.py NAME SECONDS DIRECTORY

NAME is one of TARGETS. An example that breaks something is shown as a test that can be copied, and
kept in DIRECTORY, to be tried first the next time. The last line of the output says, as libFuzzer
does, how many examples were tried.
"""

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import test_fuzz_calls
import test_fuzz_messages
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import run_state_machine_as_test
from netns import isolate, private_namespace

ROUND = 100  # examples between two looks at the clock

Round = Callable[[], object]


class Counter:
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose calls count."""

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return function(*args, **kwargs)

        return counted


def handle_packet(profile: settings, counter: Counter) -> Round:
    """handle_packet with any bytes."""
    test: Any = profile(test_fuzz_messages.test_any_bytes)
    test.hypothesis.inner_test = counter.of(test.hypothesis.inner_test)
    return cast(Round, test)


def played_calls(profile: settings, counter: Counter) -> Round:
    """Calls in any order, on a played kernel."""
    machine: Any = counter.of(test_fuzz_calls.PlayedCalls)
    return lambda: run_state_machine_as_test(machine, settings=profile)


def real_calls(profile: settings, counter: Counter) -> Round:
    """Calls in any order, on real packets."""
    test_fuzz_calls.set_rules()
    machine: Any = counter.of(test_fuzz_calls.RealCalls)
    return lambda: run_state_machine_as_test(machine, settings=profile)


TARGETS = {"handle_packet": handle_packet, "played_calls": played_calls, "real_calls": real_calls}


def main(name: str, seconds: str, directory: str) -> None:
    end = time.monotonic() + float(seconds)
    set_hypothesis_home_dir(directory)
    profile = settings(
        max_examples=ROUND,
        database=DirectoryBasedExampleDatabase(directory),
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    isolate()
    with private_namespace():
        counter = Counter()
        run_round = TARGETS[name](profile, counter)
        while counter.calls == 0 or time.monotonic() < end:
            run_round()
    print("stat::number_of_executed_units:", counter.calls)


if __name__ == "__main__":
    main(*sys.argv[1:])
