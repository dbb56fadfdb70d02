"""The conformance suite that every driver passes, ours and others' alike. Needs pytest."""

from __future__ import annotations

from hashring.testing.suite.suite import DriverSuite

__all__ = ["DriverSuite"]
