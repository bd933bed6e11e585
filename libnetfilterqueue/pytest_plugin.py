# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest fixture that libnetfilterqueue brings. It costs nothing where it is not used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from libnetfilterqueue.testing import FakeKernel


@pytest.fixture
def nfqueue() -> "Iterator[FakeKernel]":
    """A fake kernel, on which ``libnetfilterqueue.open()`` opens its handles.

    See docs/testing.md.
    """
    from libnetfilterqueue.testing import FakeKernel  # noqa: PLC0415 (most tests do without)

    with FakeKernel() as kernel, kernel.patched():
        yield kernel
