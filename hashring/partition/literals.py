"""The words that arguments and states can be, as types: a typo in one fails a type checker."""

from __future__ import annotations

from typing import Literal

__all__ = ["HandoffMode", "OnCrash", "State"]

State = Literal["joining", "settling", "settled", "fenced", "draining", "left"]
"""What :attr:`Partition.state` can be."""

HandoffMode = Literal["exclusive", "eager"]
"""What the ``handoff`` argument of :func:`join` can be."""

OnCrash = Literal["repeat", "skip"]
"""What the ``on_crash`` argument of :meth:`Partition.cycles` can be."""
