"""How the house stands: which module imports which, and how large each may be."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import MOST, TREE, too_large

# A module of ours, and a line that its place forbids: one for each contract.
PLANTED = {
    "Imports run down only": ("hashring/errors.py", "import hashring.partition.partition"),
    "Imports in the agents run down only": (
        "hashring/telemetry/model/sample.py",
        "def late():\n    from hashring.telemetry.agent import agent",
    ),
    "Imports in the alarms run down only": (
        "hashring/alarms/model.py",
        "def late():\n    from hashring.alarms.evaluator import Evaluator",
    ),
    "The ring and the protocol know no": ("hashring/protocol/record.py", "import time"),
    "A driver knows no ring": ("drivers/memory.py", "from hashring.ring.ring import HashRing"),
}


def test_nothing_is_larger_than_it_may_be_but_what_says_why():
    found = too_large()
    assert found == {}, f"at most {MOST}: split it, or say in its first lines why it is so long"


def test_what_is_too_large_is_found_unless_it_says_why(tmp_path):
    body = "    x = 1\n" * 61
    methods = "".join(f"    def m{number}(self): ...\n" for number in range(26))
    (tmp_path / "hashring").mkdir()
    (tmp_path / "hashring" / "lines.pxi").write_text("\n" * 501)
    (tmp_path / "hashring" / "excused.pyx").write_text(
        "# Long because it is a table\n" + "\n" * 501
    )
    (tmp_path / "hashring" / "parts.py").write_text(
        f"class Wide:\n{methods}\n"
        f"if True:\n    class Excused:\n        # Long because of an interface.\n    "
        + methods.replace("\n", "\n    ")
        + f"\nasync def tall():\n{body}\n"
        f"def told():\n    # Long because it is one table.\n{body}\n"
        + 'def documented():\n    """'
        + "\n" * 80
        + '    """\n'
    )
    assert too_large(tmp_path) == {
        "hashring/lines.pxi": 501,
        "hashring/parts.py::Wide": 26,
        "hashring/parts.py::tall": 62,
    }


@pytest.fixture(scope="module")
def linted(tmp_path_factory):
    """What the import contract says of a copy of the tree with an import planted for each rule."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("hashring", "drivers"):
        shutil.copytree(
            TREE / name, tree / name, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__")
        )
    shutil.copy(TREE / "pyproject.toml", tree)
    for path, line in PLANTED.values():
        with (tree / path).open("a") as file:
            file.write(f"\n\n{line}\n")
    lint = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [lint, "--no-logo", "--no-cache"],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("contract", PLANTED)
def test_an_import_against_the_grain_breaks_its_contract(linted, contract):
    assert linted.returncode != 0
    (line,) = [
        line for line in linted.stdout.splitlines() if re.match(f"{contract}.*(KEPT|BROK)", line)
    ]
    assert "BROKEN" in line


def test_no_module_of_ours_imports_a_driver():
    # They are found by their entry points, ours as well as others'. The contract cannot say so: to
    # it, drivers/ is a package of its own.
    importing = re.compile(r"^\s*(from|import)\s+hashring\.drivers\b", re.MULTILINE)
    assert [
        path for path in (TREE / "hashring").rglob("*.py") if importing.search(path.read_text())
    ] == []


def test_what_is_compiled_imports_errors_and_what_lies_beside_it_and_nothing_else_of_ours():
    # The contract reads no Cython.
    imports = [
        (".".join(path.relative_to(TREE).parent.parts), line.split()[1])
        for path in (TREE / "hashring").rglob("*.p[yx][xdi]")
        if path.suffix != ".pyi"
        for line in path.read_text().splitlines()
        if re.match(r"\s*(from|c?import)\s+(hashring|\.)", line)
    ]
    assert imports
    assert [
        (folder, name)
        for folder, name in imports
        if not (name.endswith(".errors") or f"{name}.".startswith(f"{folder}."))
    ] == []


def test_the_types_of_the_engine_say_of_each_name_what_the_plain_engine_says():
    def documented(path):
        return {
            f"{owner}{node.name}": ast.get_docstring(node)
            for owner, nodes in _bodies(ast.parse(path.read_text()))
            for node in nodes
            if not node.name.startswith("_")
        }

    ring = TREE / "hashring" / "ring"
    plain = documented(ring / "reference_keys.py") | documented(ring / "reference.py")
    typed = documented(ring / "_engine.pyi")
    assert typed.keys() - plain.keys() == {"Table.ids", "Table.universe"}  # attributes there
    assert all(typed.values())
    assert {name: typed[name] for name in typed.keys() & plain.keys()} == {
        name: plain[name] for name in typed.keys() & plain.keys()
    }


def _bodies(module):
    yield "", [node for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield f"{node.name}.", [part for part in node.body if isinstance(part, ast.FunctionDef)]
