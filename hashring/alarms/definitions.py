"""Alarms in files: ``*.yaml`` of a folder, each a list of alarms, with the line of what is wrong.

The fields are those of the API. A name is unique in all the files together: it is what makes an
alarm the same one after a change of its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hashring.alarms.errors import BadAlarm
from hashring.alarms.model import Alarm, Problem, alarm_of, problem_of
from hashring.telemetry.model import bounded_yaml
from hashring.telemetry.model.documents import NoKeyTwice, line_and_problem
from hashring.url import shown

__all__ = ["Placed", "files_of", "fingerprint", "load", "load_all"]

_SUFFIXES = frozenset({".yaml", ".yml"})


class Placed(NamedTuple):
    """An alarm of a file.

    Attributes:
        alarm: it.
        place: ``file:line`` where it begins.
    """

    alarm: Alarm
    place: str


class _Loader(NoKeyTwice, yaml.SafeLoader):
    """Plain values only, and no key twice in one mapping."""


def files_of(folders: Iterable[Path]) -> list[Path]:
    """Return the files of alarms in folders, in the order of their names.

    Raises:
        BadAlarm: a folder cannot be read.
    """
    found = []
    for folder in folders:
        try:
            files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
        except OSError as error:
            raise BadAlarm(
                f"{folder}: cannot be read: {error.strerror}; it must be a folder of *.yaml"
            ) from None
        found += [path for path in files if path.is_file() and not path.name.startswith(".")]
    return found


def load(folders: Sequence[Path], check: Callable[[str], None]) -> list[Placed]:
    """Return the alarms of all files.

    Args:
        folders: of them.
        check: checks the URL of an action; raises BadAlarm.

    Raises:
        BadAlarm: the first thing that is wrong: ``file:line: field: what``.
    """
    placed, problems = load_all(folders, check)
    if problems:
        raise BadAlarm(problems[0])
    return placed


def load_all(
    folders: Sequence[Path], check: Callable[[str], None]
) -> tuple[list[Placed], list[str]]:
    """Return the alarms of all files, and what is wrong with others: ``file:line: field: what``.

    Args:
        folders: of them.
        check: checks the URL of an action; raises BadAlarm.

    Raises:
        BadAlarm: a folder cannot be read.
    """
    placed: list[Placed] = []
    problems: list[str] = []
    by_name: dict[str, str] = {}
    for path in files_of(folders):
        for found in _in_file(path, check):
            if isinstance(found, str):
                problems.append(found)
            elif (first := by_name.get(found.alarm.name)) is not None:
                problems.append(
                    f"{found.place}: name: {shown(found.alarm.name)} stands twice, first in {first}"
                )
            else:
                by_name[found.alarm.name] = found.place
                placed.append(found)
    return placed, problems


def fingerprint(folders: Iterable[Path]) -> str:
    """Return a text that changes with the files; of a folder that cannot be read, that alone."""
    digest = hashlib.sha256()
    for folder in folders:
        try:
            for path in files_of([folder]):
                found = path.stat()
                digest.update(
                    f"{path}|{found.st_ino}|{found.st_size}|{found.st_mtime_ns}\n".encode()
                )
        except (OSError, BadAlarm):
            digest.update(f"{folder}|cannot be read\n".encode())
    return digest.hexdigest()


def _in_file(path: Path, check: Callable[[str], None]) -> list[Placed | str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return [f"{path}: not UTF-8 at byte {error.start}"]
    except OSError as error:
        return [f"{path}: cannot be read: {error.strerror}"]
    try:
        bounded_yaml.check(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line, problem = line_and_problem(error, str(error.context))
        return [f"{path}:{line}: not the YAML of a list of alarms: {problem}"]
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        return [f"{path}: not YAML: {' '.join(str(error).split())}"]
    if value is None or node is None:
        return []
    if not isinstance(value, list):
        return [f"{path}:1: must be a list of alarms: begin each with '- name: ...'"]
    return [_placed(path, one, part, check) for one, part in zip(value, node.value, strict=True)]


def _placed(path: Path, value: Any, node: Any, check: Callable[[str], None]) -> Placed | str:
    problem = problem_of(value)
    if problem is None:
        alarm = alarm_of(value)
        problem = _of_actions(alarm, check)
        if problem is None:
            return Placed(alarm, f"{path}:{node.start_mark.line + 1}")
    name = value.get("name") if isinstance(value, dict) else None
    of = f"alarm {shown(name)}: " if isinstance(name, str) else ""
    return f"{path}:{_line(node, problem.path)}: {of}{problem}"


def _of_actions(alarm: Alarm, check: Callable[[str], None]) -> Problem | None:
    for field in ("ok_actions", "alarm_actions", "insufficient_data_actions"):
        for number, url in enumerate(getattr(alarm, field)):
            try:
                check(url)
            except BadAlarm as error:
                return Problem((field, number), str(error))
    return None


def _line(node: Any, path: tuple[str | int, ...]) -> int:
    """Return the line, from 1, of what a path leads to; of what is missing, that of its owner."""
    line: int = node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                return line
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line
