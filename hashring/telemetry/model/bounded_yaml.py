"""YAML that cannot cost more than it is worth: checked before it is loaded.

A few lines of aliases of aliases stand for billions of values, and a number of many digits takes
minutes to be read. Files are written by other tools, and read anew while the agent works. This
module knows text alone, and not what it means.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["MAX_BYTES", "TooMuch", "check"]

MAX_BYTES = 4 * 1024 * 1024
"""Bytes of a file of definitions, at most. (Files of targets are larger, and say so.)"""

_MAX_LINES = 500_000
"""What separates values: ends of lines, commas, brackets. PyYAML takes some kilobytes for each."""

_MAX_DEPTH = 50
_ALIASES_FREE = 10_000
_ALIASES_TIMES = 10
"""A document with aliases may stand for so many values, or for so many times those written."""

_LONG_NUMBER = re.compile(r"[-+0-9_:.]{400}")
"""To read a number of n digits takes n squared steps; in base 60 (``1:30:00``) even more."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TooMuch(yaml.MarkedYAMLError):
    """A YAML text is larger, deeper, or stands for more than is read."""

    def __init__(self, problem: str, mark: Any = None) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def check(text: str, *, max_bytes: int = MAX_BYTES) -> None:
    r"""Refuse a text that would cost too much to load.

    Args:
        text: of one document.
        max_bytes: characters, at most.

    Raises:
        TooMuch: it is too large, too deep, has a number that is too long, or aliases that stand
            for too much; with the place, where there is one.
        yaml.YAMLError: it is not YAML.

    Example:
        >>> check("a: &x [1, 2]\nb: *x\n")
        >>> check("a: &a [*a]")
        Traceback (most recent call last):
        ...
        hashring.telemetry.model.bounded_yaml.TooMuch: an alias stands for what it stands in
          in "<unicode string>", line 1, column ...
    """
    if len(text) > max_bytes:
        raise TooMuch(f"it has {len(text)} characters; {max_bytes} are the most")
    if sum(map(text.count, "\n,[{")) > _MAX_LINES:
        raise TooMuch(f"it has more than {_MAX_LINES} lines, commas and brackets")
    if _LONG_NUMBER.search(text):
        raise TooMuch("it has a number, or a row of marks, that is too long to be read")
    # Most files have no alias, and large ones none at all: these are not read twice.
    if "*" in text or _looks_deep(text):
        _check_nodes(yaml.compose(text, Loader=_LOADER))


def _looks_deep(text: str) -> bool:
    """Whether it may be nested too deeply; cheap, and never wrong where it is."""
    return (
        text.count("[") + text.count("{") > _MAX_DEPTH
        or re.search(rf"^ {{{_MAX_DEPTH},}}", text, re.MULTILINE) is not None
        or re.search(r"[-?][ \t]+[-?][ \t]", text) is not None
    )


def _check_nodes(root: Any) -> None:
    """Count what each node stands for, aliases followed; children before their parents."""
    sizes: dict[int, int] = {}
    path: set[int] = set()  # nodes whose children are being counted
    stack = [] if root is None else [(root, 1, False)]
    while stack:
        node, depth, is_done = stack.pop()
        if is_done:
            path.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in _children(node))
            continue
        if id(node) in path:
            raise TooMuch("an alias stands for what it stands in", node.start_mark)
        if id(node) in sizes:
            continue
        if depth > _MAX_DEPTH:
            raise TooMuch(f"it is nested more than {_MAX_DEPTH} levels deep", node.start_mark)
        path.add(id(node))
        stack.append((node, depth, True))
        stack.extend((child, depth + 1, False) for child in _children(node))
    if root is not None and sizes[id(root)] > max(_ALIASES_FREE, _ALIASES_TIMES * len(sizes)):
        raise TooMuch(
            f"its {len(sizes)} values stand for more than {_ALIASES_TIMES} times as many, by "
            "aliases of aliases",
            root.start_mark,
        )


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return []
