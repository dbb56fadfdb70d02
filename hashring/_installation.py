"""What is checked of an installation and its platform before it is used.

Imports nothing of the package but its errors, and is cheap: every ``import hashring`` runs it.
"""

from __future__ import annotations

import os
import sys

from hashring.errors import UnsupportedPlatform

__all__ = ["check_files", "check_platform"]


def check_files(folder: str = os.path.dirname(__file__)) -> None:  # noqa: PTH120
    """Refuse an installation that shares its folder with PyPI's older project `hashring`.

    Both distributions install ``hashring/__init__.py``. The later one overwrites the other's file,
    and the removal of either takes it away from both.

    Args:
        folder: where the package is installed.

    Raises:
        ImportError: a file of the other distribution is in the folder.
    """
    # Without pathlib, whose import takes as long as that of the whole package.
    file = os.path.join(folder, "hashring.py")  # noqa: PTH118
    if os.path.exists(file):  # noqa: PTH110
        raise ImportError(
            f"{file} belongs to another distribution, 'hashring', which has the import name of "
            "'hashring-ha': one has overwritten the other's files. Keep one of them: pip uninstall "
            "--yes hashring hashring-ha, then pip install hashring-ha",
            name="hashring",
        )


def check_platform() -> None:
    """Refuse to join a group where a lease could not be kept.

    A fence needs a clock that runs on while the machine is suspended (``CLOCK_BOOTTIME``), and only
    Linux has one that Python can read. A ring alone works everywhere.

    Raises:
        UnsupportedPlatform: this is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise UnsupportedPlatform(
            f"hashring joins groups on Linux alone, and this is {sys.platform!r}: the lease needs "
            "CLOCK_BOOTTIME. HashRing, Keys and SlotSet work here too"
        )
