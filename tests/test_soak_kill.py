# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters are killed under traffic, or hand their queues on: `./dev soak --kill`, made short."""

import pytest
from soak_kill import PLANS, Plan

ENDS = 20  # of filters; `./dev soak --kill` has 1,000


@pytest.mark.parametrize(
    "plan",
    [PLANS[0], *[pytest.param(plan, marks=pytest.mark.slow) for plan in PLANS[1:]]],
    ids=[plan.name.replace(" ", "-").lower() for plan in PLANS],
)
def test_every_packet_is_accounted_for(plan: Plan) -> None:
    """None is lost, none passes undecided; with the default verdict only what was in dead hands is
    dropped."""
    assert plan.run(ENDS).wrong() == []
