"""The types that we publish for compiled modules are those of the modules."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parent.parent
STUBS = sorted((TREE / "hashring").rglob("*.pyi"))

# What Cython adds to every class or module, and no caller is to use.
OF_CYTHON = r"""
.*\.__(reduce_cython|setstate_cython|pyx_capi|test|pyx_unpickle_\w+)__
.*\.__class_getitem__
.*\.__r(and|or|sub|xor)__
"""


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.stem)
def test_a_stub_says_what_its_extension_has(stub, tmp_path):
    module = ".".join(stub.relative_to(TREE).with_suffix("").parts)
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{module} was not compiled: stubs cannot be compared with it"
    assert isinstance(spec.loader, importlib.machinery.ExtensionFileLoader)
    allowed = tmp_path / "allowed"
    allowed.write_text(OF_CYTHON, encoding="utf-8")
    command = [sys.executable, "-m", "mypy.stubtest", "--concise", "--ignore-unused-allowlist"]
    command += ["--ignore-positional-only", "--ignore-disjoint-bases", "--allowlist", allowed]
    done = subprocess.run(
        [*command, module], cwd=TREE, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_stubs():
    assert [stub for stub in STUBS if stub.stem == "_engine"]
