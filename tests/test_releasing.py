"""The page about releases: its commands make, upload, install and use what the tree is now."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import TREE
from tests.servers.process import free_port

PAGE = (TREE / "docs" / "releasing.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Ends the index, should a command fail half-way.
PREAMBLE = "set -euo pipefail\ntrap 'kill $(jobs -p) 2> trap.log || true' EXIT\n"


@pytest.mark.long
def test_the_commands_of_the_page_carry_a_release_into_an_index_and_out_again(
    tmp_path, distributions
):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks)
    # The fixture has run this command, without what makes it slow.
    built = "HASHRING_REQUIRE_EXTENSION=1 python -m build --outdir dist .\n"
    assert built in script
    shutil.copytree(distributions, tmp_path / "dist")
    (tmp_path / "script.sh").write_text(PREAMBLE + script.replace(built, ""))
    variables = {
        "INDEX": f"http://127.0.0.1:{free_port()}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    shell = subprocess.Popen(
        ["bash", "script.sh"],
        cwd=tmp_path,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told, _ = shell.communicate(timeout=280)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()

    assert shell.returncode == 0, told
    version = PROJECT["version"]
    assert f"hashring {version}\n" in told  # the command
    assert re.search(rf"^{re.escape(version)} [ab]$", told, re.MULTILINE)  # hashring.__version__
    assert "sqlite://" in told
    uploaded = {path.name for path in (tmp_path / "index").iterdir()}
    assert {path.name for path in distributions.iterdir()} <= uploaded


def test_the_version_stands_in_one_place():
    pattern = rf"(version.*|hashring(-ha)? )(?<![\w.]){re.escape(PROJECT['version'])}(?![\w.])"
    files = [TREE / "pyproject.toml", TREE / "setup.py", TREE / "Makefile"]
    for folder in ("hashring", "drivers", "tests", "examples"):
        files += (TREE / folder).rglob("*.py")

    holders = [file.name for file in files if re.search(pattern, file.read_text("utf-8"))]

    assert holders == ["pyproject.toml"]


@pytest.mark.parametrize("name", ["SECURITY.md", "CONTRIBUTING.md", "LICENSE", "CHANGELOG.md"])
def test_a_clone_has_the_pages_that_a_visitor_looks_for_and_their_links_lead_somewhere(name):
    page = (TREE / name).read_text(encoding="utf-8")

    for target in re.findall(r"\]\(([\w./-]+)\)", page):
        assert (TREE / target).is_file(), target
