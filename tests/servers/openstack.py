"""An environment with the present releases of OpenStack's services, and what Ceilometer's may say.

It is made once, beside the tree's own environment, and kept until the releases that pyproject.toml
names (``[dependency-groups] openstack`` and the two after it) are others. Its packages never come
near ours.

    python -m tests.servers.openstack            make the environment, with Ceilometer alone
    python -m tests.servers.openstack --write    write hashring/telemetry/config/ceilometer.py anew
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

from filelock import FileLock

TREE = Path(__file__).resolve().parent.parent.parent
FOLDER = TREE / ".openstack"
_PYTHON = FOLDER / "venv" / "bin" / "python"
_STAMP = FOLDER / "requirements.txt"
_SERVICES = FOLDER / "services.txt"
_STORES = FOLDER / "stores.txt"
MODULE = TREE / "hashring" / "telemetry" / "config" / "ceilometer.py"

_QUESTIONS = Path(__file__).with_name("openstack_names.py")


def requirements(group: str) -> list[str]:
    """Return what is installed, as pyproject.toml has it."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    return [str(one) for one in project["dependency-groups"][group]]


def python() -> Path:
    """Return the environment's Python; make the environment where it is missing or another's."""
    wanted = "\n".join([sys.version, *requirements("openstack")])
    FOLDER.mkdir(exist_ok=True)
    with FileLock(FOLDER / "lock"):
        if not _is(_STAMP, wanted):
            for stamp in (_STAMP, _SERVICES, _STORES):
                stamp.unlink(missing_ok=True)
            venv.create(FOLDER / "venv", clear=True, with_pip=False)
            _install(*requirements("openstack"))
            _STAMP.write_text(wanted)
    return _PYTHON


def python_with_services() -> Path:
    """Return the same, with Gnocchi, Aodh, Designate and Cinder's own modules beside Ceilometer."""
    python()
    full, alone = requirements("openstack-services"), requirements("openstack-alone")
    wanted = "\n".join([*full, *alone])
    with FileLock(FOLDER / "lock"):
        if not _is(_SERVICES, wanted):
            _install(*requirements("openstack"), *full)
            _install("--no-deps", *alone)
            _SERVICES.write_text(wanted)
    return _PYTHON


def add_stores() -> None:
    """Install there, too, what tooz's drivers and ours need for stores other than Redis."""
    python()
    named = requirements("openstack-stores")
    with FileLock(FOLDER / "lock"):
        if not _is(_STORES, "\n".join(named)):
            _install(*requirements("openstack"), *named)
            _STORES.write_text("\n".join(named))


def _is(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _install(*what: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(_PYTHON)]
    _run(*pip, "install", "--quiet", *what)


def names() -> dict[str, Any]:
    """Return the names that the release knows: see ``openstack_names.py``."""
    return dict(json.loads(_run(str(python()), "-I", "-W", "ignore", str(_QUESTIONS))))


def module(known: dict[str, Any]) -> str:
    """Return the text of the module that holds the names."""
    lines = [
        '"""What the present release of Ceilometer knows in the files that agents read.',
        "",
        "Written by `python -m tests.servers.openstack --write` from the release itself, with",
        "which a test compares it. Do not edit.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Mapping",
        "",
        f'RELEASE = "{known["release"]}"',
        "",
        "# Options by section, with the old names that it still takes.",
        "OPTIONS: Mapping[str, frozenset[str]] = {",
    ]
    for section, options in sorted(known["options"].items()):
        lines += [f'    "{section}": frozenset(', "        {", *_quoted(options, 12), "        }"]
        lines += ["    ),"]
    lines += ["}", ""]
    for title, key, name in (
        ("Fields of a source in polling.yaml.", "source", "SOURCE_FIELDS"),
        ("Fields of a source in pipeline.yaml.", "pipeline_source", "PIPELINE_SOURCE_FIELDS"),
        ("Fields of a sink in pipeline.yaml.", "sink", "SINK_FIELDS"),
        ("Fields of a dynamic pollster.", "pollster", "POLLSTER_FIELDS"),
    ):
        lines += [f"# {title}", f"{name} = frozenset(", "    {", *_quoted(known[key], 8), "    }"]
        lines += [")", ""]
    return "\n".join(lines)


def _quoted(found: list[str], indent: int) -> list[str]:
    return [f'{" " * indent}"{name}",' for name in sorted(found)]


def _run(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=FOLDER
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        MODULE.write_text(module(names()))
    else:
        python()
