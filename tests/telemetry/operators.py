"""What an operator writes into files, and what an agent says where it cannot be served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hashring.telemetry.config.options import load
from hashring.telemetry.errors import BadOption

Write = Callable[..., Path]
"""Writes a text, indented as the test is, into a file of this name, and returns its path."""


def refused(*files: Path, **overrides: Any) -> str:
    """Return what is said of options that cannot be loaded."""
    with pytest.raises(BadOption) as caught:
        load(files, **overrides)
    return str(caught.value)
