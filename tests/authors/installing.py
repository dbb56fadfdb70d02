"""Installs the author's driver, as it is or with a mistake, in a folder for ``PYTHONPATH``."""

from __future__ import annotations

from pathlib import Path

AUTHORS = Path(__file__).parent
SUITE = "suite_postgresql.py"


def correct() -> str:
    """Return the source of the driver without a mistake."""
    return (AUTHORS / "hashring_postgresql.py").read_text()


def install(folder: Path, source: str) -> None:
    """Lay out what an installed driver is: a module, and a distribution with its entry point."""
    (folder / "hashring_postgresql.py").write_text(source)
    (folder / SUITE).write_text((AUTHORS / SUITE).read_text())
    distribution = folder / "hashring_postgresql-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: hashring-postgresql\nVersion: 1.0\n"
    )
    (distribution / "entry_points.txt").write_text(
        "[hashring.drivers]\nauthors-postgresql = hashring_postgresql:PostgreSQLDriver\n"
    )
