"""What an import costs, and what is said of an installation that cannot work."""

from __future__ import annotations

import ast
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import setuptools

from tests.conftest import TREE, run

pytestmark = pytest.mark.slow

# What PyPI's older project `hashring` 1.5.1 installs.
OTHER = {
    "__init__.py": "from .hashring import HashRing\n\n__all__ = ['HashRing']\n",
    "hashring.py": "class HashRing:\n    pass\n",
}


def python(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-I", *arguments, "-c", program, cwd=TREE, **variables)


def loaded_by(program: str) -> set[str]:
    """The modules that a program loads beyond those that Python and its sites load."""
    names = "import sys; print(*sys.modules)"
    # -S: what a site's .pth files import would hide what the package does.
    prefix = f"import sys; sys.path[:0] = {[str(TREE), *site_packages()]!r}\n"
    with_it = python(f"{prefix}{program}\n{names}", "-S")
    without = python(f"{prefix}{names}", "-S")
    assert with_it.returncode == 0, with_it.stderr
    return set(with_it.stdout.split()) - set(without.stdout.split())


def site_packages() -> list[str]:
    return [path for path in sys.path if path.endswith("site-packages")]


def test_an_import_loads_no_more_than_the_names_and_the_errors():
    loaded = loaded_by("import hashring")

    assert {name for name in loaded if name.startswith("hashring")} == {
        "hashring",
        "hashring._installation",
        "hashring.errors",
    }
    slow = {"asyncio", "dataclasses", "email", "importlib.metadata", "inspect", "json", "logging"}
    slow |= {"multiprocessing", "pathlib", "socket", "threading", "typing_extensions"}
    assert loaded & slow == set()


def test_a_ring_loads_no_partition_and_no_store():
    loaded = loaded_by("import hashring; hashring.HashRing(['a']).owner('key')")

    assert "hashring.ring" in loaded
    unwanted = {"hashring.partition", "hashring.driver", "importlib.metadata", "logging", "socket"}
    assert loaded & unwanted == set()


def test_a_partition_loads_no_pool_of_processes():
    loaded = loaded_by("import hashring; hashring.join; hashring.Partition; hashring.Cycle")

    assert "hashring.partition.partition" in loaded
    assert loaded & {"multiprocessing", "concurrent.futures.process", "subprocess"} == set()


def test_every_public_name_is_found_by_getattr_by_import_and_by_star():
    told = python(
        "import hashring\n"
        "from hashring import *\n"
        "from hashring import join as joined\n"
        "assert joined is hashring.join is join\n"
        "assert hashring.driver.drivers is hashring.drivers\n"
        "assert hashring.ring.HashRing is HashRing\n"
        "assert set(hashring.__all__) <= set(globals()) & set(dir(hashring))\n"
        "try:\n"
        "    hashring.jion\n"
        "except AttributeError as error:\n"
        "    print(error)\n"
    )

    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == "module 'hashring' has no attribute 'jion'"


def test_a_checker_is_told_of_the_names_that_are_imported_late():
    tree = ast.parse((TREE / "hashring" / "__init__.py").read_text(encoding="utf-8"))
    assigned = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    late = set(ast.literal_eval(assigned["_WHERE"]))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert late < set(ast.literal_eval(assigned["__all__"]))
    assert late <= imported


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_another_system_is_told_what_is_supported_and_still_has_the_ring(platform):
    told = python(
        "import sys, time\n"
        "del time.CLOCK_BOOTTIME\n"
        f"sys.platform = {platform!r}\n"
        "import hashring\n"
        "print(hashring.HashRing(['a']).owner('key'))\n"
        "try:\n"
        "    hashring.join('memory://', 'group')\n"
        "except hashring.UnsupportedPlatform as error:\n"
        "    print(error)\n"
    )

    assert told.returncode == 0, told.stderr
    owner, said = told.stdout.splitlines()
    assert owner == "a"
    assert platform in said
    assert "on Linux alone" in said


@pytest.fixture
def installed(tmp_path):
    """A folder that has our package as an installer would have copied it there."""
    leave_out = shutil.ignore_patterns("__pycache__", "telemetry", "testing", "*.c", "*.pyx")
    shutil.copytree(TREE / "hashring", tmp_path / "hashring", ignore=leave_out)
    shutil.copytree(
        TREE / "hashring" / "telemetry",
        tmp_path / "hashring" / "telemetry",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return tmp_path


def imported(folder: Path, statement: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder), *site_packages()]
    return python(f"import sys; sys.path[:0] = {paths!r}\n{statement}", "-S")


def test_a_whole_installation_imports_from_where_it_lies(installed):
    told = imported(installed, "import hashring, hashring.cli; print(hashring.__file__)")

    assert told.returncode == 0, told.stderr
    assert Path(told.stdout.strip()).is_relative_to(installed)


def test_the_other_hashrings_files_below_ours_are_named(installed):
    # `pip install hashring hashring-ha`: ours came last, and the name's first file is ours.
    (installed / "hashring" / "hashring.py").write_text(OTHER["hashring.py"])

    told = imported(installed, "import hashring")

    assert told.returncode == 1
    last = told.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "another distribution" in last
    assert "pip uninstall --yes hashring hashring-ha" in last


def test_the_other_hashrings_files_over_ours_are_named_by_what_is_left_of_ours(installed):
    # `pip install hashring` beside ours: the name's first file is theirs, and says nothing.
    for name, text in OTHER.items():
        (installed / "hashring" / name).write_text(text)

    for statement in (
        "import hashring.cli",
        "import hashring.driver",
        "import hashring.partition.partition",
    ):
        told = imported(installed, statement)

        assert told.returncode == 1, statement
        assert "another distribution" in told.stderr.splitlines()[-1], told.stderr


@pytest.fixture
def build(tmp_path):
    """Makes a wheel of our tree as it is, but for extensions of one line: those compile at once."""
    tree = tmp_path / "tree"
    leave_out = shutil.ignore_patterns("__pycache__", "*.so", "*.c", "*.h", "*.pxd", "*.pyi")
    for folder in ("hashring", "drivers"):
        shutil.copytree(TREE / folder, tree / folder, ignore=leave_out)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TREE / name, tree)
    for source in tree.rglob("*.pyx"):
        source.write_text("cdef int nothing = 0\n")

    def make(**variables: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
        done = run(*command, "--wheel-dir", str(tmp_path), str(tree), cwd=tmp_path, **variables)
        compiled = {
            Path(name).name.partition(".")[0]
            for wheel in tmp_path.glob("*.whl")
            for name in zipfile.ZipFile(wheel).namelist()
            if name.endswith(".so")
        }
        return done, compiled

    return make


@pytest.mark.long
def test_a_build_that_must_have_its_extensions_has_them(build):
    done, compiled = build(HASHRING_REQUIRE_EXTENSION="1")

    assert done.returncode == 0, done.stderr
    assert compiled == {"_engine", "_toozring", "_lines", "_exposition", "_messages"}


def test_a_build_that_must_have_its_extensions_fails_without_a_compiler(build, tmp_path):
    done, _ = build(HASHRING_REQUIRE_EXTENSION="1", CC="/bin/false")

    assert done.returncode != 0
    assert "/bin/false" in done.stdout + done.stderr
    assert list(tmp_path.glob("*.whl")) == []


@pytest.mark.parametrize(
    ("flags", "optimized"), [("", True), ("-O2 -Wall", True), ("-O0", False), ("-g -O0", False)]
)
def test_extensions_are_optimized_unless_the_compiler_is_told_otherwise(
    monkeypatch, flags, optimized
):
    made = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: made.update(arguments))
    monkeypatch.setenv("CFLAGS", flags)
    monkeypatch.chdir(TREE)

    runpy.run_path("setup.py")

    engine, *_ = made["ext_modules"]
    assert engine.name == "hashring.ring._engine"
    assert ("-O3" in engine.extra_compile_args) is optimized


def test_a_build_is_not_both_without_its_extensions_and_required_to_have_them(build):
    done, _ = build(HASHRING_NO_EXTENSION="1", HASHRING_REQUIRE_EXTENSION="1")

    assert done.returncode != 0
    assert "contradict" in done.stdout + done.stderr
