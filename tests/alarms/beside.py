"""Environments that have, besides what this one has, the extras that would change every test."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

from tests.conftest import BUILDS, TREE


def python_beside(folder: Path, *extras: str) -> Path:
    """Return the Python of an environment that sees ours, with some extras of ``pyproject.toml``.

    oslo.messaging brings eventlet, for one, which tooz uses wherever it is there.

    Args:
        folder: an empty one.
        extras: names.
    """
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (theirs,) = folder.glob("venv/lib/python*/site-packages")
    here = sysconfig.get_path("purelib")
    (theirs / "beside.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    wanted = [one for extra in extras for one in project["optional-dependencies"][extra]]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", *wanted], check=True, timeout=BUILDS)
    return python
