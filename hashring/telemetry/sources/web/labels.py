"""What a sample's value and labels become: a volume that any sink can hold, an id, and metadata.

This module knows neither formats nor targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["finite", "shown", "with_target"]


def with_target(labels: Mapping[str, str], target: Mapping[str, str]) -> dict[str, str]:
    """Return labels with the target's; of one that both have, the own becomes ``exported_NAME``."""
    own = {
        (f"exported_{label}" if label in target else label): value
        for label, value in labels.items()
    }
    return own | dict(target)


def finite(volume: float | None) -> float | int | None:
    """Return a volume that any sink can hold; ``None`` for none, or for what is not finite."""
    try:
        if volume is None or not math.isfinite(volume):  # a native histogram has no volume
            return None
    except OverflowError:  # the parser makes an integer of any number of digits
        return None
    return volume if -(2**63) <= volume < 2**64 else float(volume)


def shown(labels: Mapping[str, str]) -> str:
    r"""Return labels as they stand in an id.

    >>> shown({"device": "sda", "a": 'say "x"'})
    '{a="say \\"x\\"",device="sda"}'
    """
    pairs = (f'{name}="{_escaped(labels[name])}"' for name in sorted(labels))
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
