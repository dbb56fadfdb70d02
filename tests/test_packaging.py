"""What we ship: it is complete, installs alone, and works away from the tree."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.slow

TREE = Path(__file__).resolve().parent.parent
COMPILED_FROM = {".pyx", ".pxi", ".c", ".h"}

# What a first user tries: a ring, then two members in one process and on one file.
FIRST_HOUR = """
import pathlib, hashring
keys = [f"disk-{number}" for number in range(1000)]
ring = hashring.HashRing({"a": 1, "b": 2})
assert {ring.owner(key) for key in keys} == {"a", "b"}
assert sorted(ring.owned("a", keys) + ring.owned("b", keys)) == sorted(keys)
assert "sqlite" in hashring.drivers()
for url in ("memory://first-hour", f"sqlite:///{pathlib.Path.cwd()}/group.db"):
    with hashring.join(url, "pollers", "a") as one, hashring.join(url, "pollers", "b") as two:
        assert one.wait_settled(30) and two.wait_settled(30), (one.state, two.state)
        assert one.owned(keys) and two.owned(keys)
        assert sorted([*one.owned(keys), *two.owned(keys)]) == sorted(keys)
assert "sqlite" in hashring.drivers()
print(hashring.__file__)
"""

USER_PROGRAM = """
import hashring

keys = hashring.Keys(["disk-1", "disk-2"])
ring: hashring.HashRing = hashring.HashRing({"a": 1.0, "b": 2})
owner: str = ring.owner("disk-1")
slots: hashring.SlotSet = ring.slots("a")
names: list[str] = hashring.drivers()
try:
    with hashring.join("memory://typed", "pollers") as partition:
        member: hashring.Partition = partition
        for cycle in partition.cycles(interval=60):
            window: hashring.Cycle = cycle
            for key in cycle.owned(keys):
                print(key)
except hashring.MemberExists as error:
    raised: hashring.HashringError = error
"""


@pytest.fixture(scope="module")
def installed(wheel, new_environment):
    """An environment with our wheel and what it needs, and nothing else."""
    environment = new_environment()
    environment.install(wheel)
    return environment


def test_the_wheel_has_one_name_and_every_file_of_the_package(wheel):
    files = {PurePosixPath(name) for name in zipfile.ZipFile(wheel).namelist()}
    (information,) = {file.parts[0] for file in files} - {"hashring"}
    assert information.endswith(".dist-info")
    assert not {file for file in files if file.suffix in COMPILED_FROM}

    expected = {
        PurePosixPath(name) / path.relative_to(TREE / folder)
        for folder, name in (("hashring", "hashring"), ("drivers", "hashring/drivers"))
        for path in (TREE / folder).rglob("*")
        if path.is_file() and path.suffix not in {".so", ".pyc", *COMPILED_FROM}
    }
    assert expected - files == set()


def test_the_sdist_has_every_source_and_nothing_built(sdist):
    with tarfile.open(sdist) as archive:
        files = {PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    for needed in ("Makefile", "LICENSE", "CHANGELOG.md", "docs/conf.py", "tests/conftest.py"):
        assert PurePosixPath(needed) in files
    assert PurePosixPath("drivers/redis/script.lua") in files
    sources = {file for file in files if file.suffix == ".pyx"}
    assert PurePosixPath("hashring/ring/_engine.pyx") in sources
    assert not files & {source.with_suffix(".c") for source in sources}
    assert not [file for file in files if file.suffix in {".so", ".pyc"} or "_build" in file.parts]


def test_an_installed_wheel_works_from_another_folder_on_the_compiled_engine(installed):
    home = installed.run("-c", FIRST_HOUR).strip()
    assert Path(home).is_relative_to(installed.folder)
    installed.run("-c", "import hashring.ring._engine")


def test_the_readme_holds_for_the_installed_wheel(installed):
    installed.run("-m", "doctest", "-o", "ELLIPSIS", TREE / "README.md")


@pytest.mark.long
def test_a_machine_without_a_compiler_installs_and_works(sdist, new_environment):
    environment = new_environment()
    log = environment.install("--no-cache-dir", sdist, CC="/bin/false")
    assert "/bin/false" in log, "nothing tried to compile, so nothing was shown"
    found = "import importlib.util as u; print(u.find_spec('hashring.ring._engine'))"
    assert environment.run("-c", found).strip() == "None"
    home = environment.run("-c", FIRST_HOUR).strip()
    assert Path(home).is_relative_to(environment.folder)
    environment.run("-m", "doctest", "-o", "ELLIPSIS", TREE / "README.md")


def command(environment, *arguments):
    return subprocess.run(
        [environment.folder / "bin" / "hashring", *arguments],
        cwd=environment.work,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_core_alone_imports_and_says_what_the_command_needs(installed):
    # What a user and the author of a plug-in import, and nothing that either would have to install.
    installed.run("-c", "import hashring, hashring.compat.tooz, hashring.telemetry.plugin")
    installed.run("-c", "from hashring.telemetry.plugin import *; Discovery, Pollster, Publisher")

    without = command(installed, "--help")

    assert without.returncode == 2
    assert without.stderr.count("\n") == 1
    assert "pip install 'hashring-ha[telemetry]'" in without.stderr


@pytest.mark.long
def test_with_click_the_command_lists_drivers_and_with_its_extra_it_has_agents(
    wheel, new_environment
):
    environment = new_environment()
    environment.install(wheel, "click>=8.1")
    for arguments in (["--help"], ["--version"], ["drivers", "--help"]):
        told = command(environment, *arguments)
        assert told.returncode == 0, told.stderr
    listed = command(environment, "drivers")
    assert listed.returncode == 0, listed.stderr
    assert "sqlite://" in listed.stdout
    assert "cannot be used: the redis:// driver needs the package 'redis'" in listed.stdout
    for arguments in (["agent"], ["agent", "check"], ["show"]):
        refused = command(environment, *arguments)
        assert refused.returncode == 2, refused.stderr
        assert refused.stderr.count("\n") == 1
        assert re.match(r"hashring: \S+ \S+ needs the package '", refused.stderr), refused.stderr
        assert "pip install 'hashring-ha[telemetry]'" in refused.stderr

    environment.install(f"{wheel}[telemetry]")

    told = command(environment, "agent", "--help")
    assert told.returncode == 0, told.stderr
    assert "central" in told.stdout
    listed = command(environment, "drivers")
    assert listed.returncode == 0, listed.stderr
    assert "sqlite://" in listed.stdout


def test_a_strictly_typed_program_is_checked_against_the_wheel(installed, tmp_path):
    def mypy(program):
        (tmp_path / "program.py").write_text(program, encoding="utf-8")
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]
        command += ["--python-executable", installed.python, "program.py"]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    accepted = mypy(USER_PROGRAM)
    assert accepted.returncode == 0, accepted.stdout
    refused = mypy(USER_PROGRAM + "\nhashring.HashRing(7)\nhashring.no_such_name\n")
    assert refused.stdout.count(": error:") == 2, refused.stdout
