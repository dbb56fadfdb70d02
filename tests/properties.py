"""How many examples a property is tried with: few in ``make test``, many in ``make test-long``."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

USUAL = 100
"""Examples of a property that says nothing of its own, without a profile."""


def examples(many: int, **others: Any) -> settings:
    """Return settings for this many examples, in proportion to those of the profile that is played.

    Args:
        many: examples where a profile has :data:`USUAL`. ``make test`` plays 40 of a hundred,
            ``make test-long`` 300.
        others: of hypothesis's settings.
    """
    played = max(1, many * settings.default.max_examples // USUAL)
    return settings(max_examples=played, **others)
