"""Documents: what all readers of YAML files here have in common. Knows no file's meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

__all__ = ["NoKeyTwice", "line_and_problem"]

_MERGE = "tag:yaml.org,2002:merge"

if TYPE_CHECKING:
    _Base = yaml.SafeLoader
else:
    _Base = object


class NoKeyTwice(_Base):
    """A part of a loader: refuses a key that stands twice in one mapping.

    YAML forbids it; PyYAML silently drops the first of the two values.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping.

        Raises:
            yaml.constructor.ConstructorError: a key stands twice; the mark is the second one's.
        """
        seen: dict[Any, Any] = {}
        for key, _ in getattr(node, "value", ()):
            if key.tag == _MERGE or not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key.value!r} stands twice in one mapping (first in line "
                    f"{seen[key.value].line + 1})",
                    key.start_mark,
                )
            seen[key.value] = key.start_mark
        return super().construct_mapping(node, deep)


def line_and_problem(error: yaml.YAMLError, otherwise: str = "") -> tuple[int, str]:
    """Return the line that an error of PyYAML names, from 1, and what is wrong there.

    Args:
        error: as it was raised.
        otherwise: what is wrong, where the error says nothing short.
    """
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or otherwise or str(error).splitlines()[0]
    return (mark.line + 1 if mark is not None else 1), problem
