# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters are killed under traffic, or hand their queues on: `./dev soak --kill`, made short."""

import os

import pytest
from soak_kill import PLANS, Plan

pytestmark = pytest.mark.slow

# Under sanitizers a filter is too slow for what comes under the other rules.
OTHERS = [] if "libasan" in os.environ.get("LD_PRELOAD", "") else PLANS[1:]
ENDS = 20  # of filters; `./dev soak --kill` has 1,000


@pytest.mark.parametrize(
    "plan",
    [PLANS[0], *[pytest.param(plan, marks=pytest.mark.slow) for plan in OTHERS]],
    ids=lambda plan: plan.name.replace(" ", "-").lower(),
)
def test_every_packet_is_accounted_for(plan: Plan) -> None:
    """None is lost, none passes undecided; with the default verdict only what was in dead hands is
    dropped."""
    assert plan.run(ENDS).wrong() == []
