"""Runs the hand-over on a store: join a group, and work the keys that are this member's own."""

from __future__ import annotations

from hashring.partition.partition import Partition, join

__all__ = ["Partition", "join"]
