"""What the sources may measure: ``tests/test_house.py`` asks, ``make check`` runs it.

A file has at most 500 lines, a class 25 methods, a function 60 lines beside its docstring. What
must be larger says why in its first lines, in a comment or in its docstring: ``Long because``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

TREE = Path(__file__).parents[1]
FOLDERS = ("hashring", "drivers", "bench", "tests", "docs")
MOST = {"file": 500, "class": 25, "function": 60}
"""The most lines of a file, methods of a class, and lines of a function."""

REASON = "Long because "
FIRST = 24
"""Within how many of its first lines a file, a class or a function says why it is large."""

_PARSED = {".py", ".pyi"}
_SOURCES = {".pyx", ".pxi", ".pxd", ".h", ".lua", ".sh", *_PARSED}
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def too_large(tree: Path = TREE) -> Mapping[str, int]:
    """Return what is larger than it may be, with its size, and does not say why.

    A file is named by its path, what is in it by path and name: ``hashring/a.py::Class.method``.
    """
    return {
        name: size
        for folder in FOLDERS
        for path in sorted((tree / folder).rglob("*"))
        if path.suffix in _SOURCES and path.is_file() and "_build" not in path.parts
        for name, size in _in_file(path, path.relative_to(tree).as_posix())
    }


def _in_file(path: Path, name: str) -> Iterator[tuple[str, int]]:
    text = path.read_text()
    lines = text.splitlines()
    if len(lines) > MOST["file"] and not _says_why(lines, 0):
        yield name, len(lines)
    if path.suffix in _PARSED:
        yield from _in_body(ast.parse(text, name), lines, f"{name}::")


def _in_body(node: ast.AST, lines: list[str], name: str) -> Iterator[tuple[str, int]]:
    for child in _statements(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _in_body(child, lines, name)
            continue
        if isinstance(child, ast.ClassDef):
            size, most = _methods(child), MOST["class"]
        else:
            size, most = _lines_of(child) - _docstring(child), MOST["function"]
        if size > most and not _says_why(lines, child.lineno - 1):
            yield f"{name}{child.name}", size
        yield from _in_body(child, lines, f"{name}{child.name}.")


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    # Expressions, which are most of a tree, have no class and no function in them.
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        yield from getattr(node, name, ())


def _methods(node: ast.ClassDef) -> int:
    # By name: an overload, or a property and its setter, are one.
    return len({child.name for child in node.body if isinstance(child, _Function)})


def _lines_of(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return _lines_of(node.body[0]) if ast.get_docstring(node) is not None else 0


def _says_why(lines: list[str], start: int) -> bool:
    return any(REASON in line for line in lines[start : start + FIRST])
