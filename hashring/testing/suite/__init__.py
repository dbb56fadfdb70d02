"""The conformance suite that every driver passes, ours and others' alike. Needs pytest."""

from __future__ import annotations

import pkgutil

import pytest

# Failures of the suite show their values, as those of the author's own tests do, whoever imports
# which part of it first.
pytest.register_assert_rewrite(
    *(part.name for part in pkgutil.iter_modules(__path__, f"{__name__}."))
)

from hashring.testing.suite.suite import DriverSuite  # noqa: E402 - once they are rewritten

__all__ = ["DriverSuite"]
