"""Definitions of meters at HTTP/JSON endpoints: as values, and the files that have them.

The format is that of Ceilometer's dynamic pollsters. Whatever is wrong with a definition is said at
the start, and costs that definition alone. How one definition is read is the business of
``http_fields``; this module asks no endpoint anything.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hashring.telemetry.errors import BadDefinition
from hashring.telemetry.model import bounded_yaml
from hashring.telemetry.model.documents import NoKeyTwice, line_and_problem
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web.http_fields import DefinitionReader, HTTPDefinition

__all__ = ["load_definitions", "usable_definitions"]

log = logging.getLogger(__name__)


def load_definitions(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> tuple[HTTPDefinition, ...]:
    """Return the definitions in ``*.yaml`` files in ``settings.definition_dirs`` that concern the
    agent's namespaces, in the order of folders, file names and lines.

    Args:
        settings: what the agent is told to do. A folder that does not exist holds no definitions.
        environment: where the secrets come from.

    Raises:
        BadDefinition: a file or a definition is not usable; the message names file, line,
            definition, field and value.
    """
    found = list(_each(settings, environment))
    for one in found:
        if isinstance(one, BadDefinition):
            raise one
    return tuple(one for one in found if isinstance(one, HTTPDefinition))


def usable_definitions(settings: Settings) -> tuple[HTTPDefinition, ...]:
    """Return what :func:`load_definitions` does, where each bad definition or file costs itself.

    Raises:
        BadDefinition: there are definitions, and none is usable.
    """
    found = list(_each(settings, os.environ))
    usable = tuple(one for one in found if isinstance(one, HTTPDefinition))
    bad = [one for one in found if isinstance(one, BadDefinition)]
    if bad and not usable:
        raise bad[0]
    for error in bad:
        log.error("%s; the other definitions are used", error)
    return usable


def _each(
    settings: Settings, environment: Mapping[str, str]
) -> Iterator[HTTPDefinition | BadDefinition]:
    """Yield each definition, or what is wrong with it."""
    found: dict[str, HTTPDefinition] = {}
    for folder in settings.definition_dirs:
        if not folder.is_dir():
            log.info("%s is not there: it holds no definitions of HTTP pollsters", folder)
            continue
        for path in sorted(folder.glob("*.yaml")):
            for one in _in_file(path, settings, environment):
                if isinstance(one, BadDefinition):
                    yield one
                    continue
                name = one.meter.name
                if name in found:
                    yield BadDefinition(
                        f"{one.place}: field 'name': {name!r} is defined already, "
                        f"in {found[name].place}"
                    )
                    continue
                found[name] = one
                yield one


class _Loader(NoKeyTwice, yaml.SafeLoader):
    """Plain values only, and no field twice in one definition."""


def _in_file(
    path: Path, settings: Settings, environment: Mapping[str, str]
) -> Iterator[HTTPDefinition | BadDefinition]:
    try:
        entries = _entries_of(path)
    except BadDefinition as error:
        yield error
        return
    for line, fields in entries:
        place = f"{path}, line {line}"
        try:
            reader = DefinitionReader(place, fields, environment)
            if not reader.namespaces() & set(settings.namespaces):
                continue
            definition = reader.definition()
        except BadDefinition as error:
            yield error
        else:
            yield definition


def _entries_of(path: Path) -> list[tuple[int, Any]]:
    """Return the definitions of a file as they are written, each with its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        bounded_yaml.check(text)
        loader = _Loader(text)
        try:
            root: Any = loader.get_single_node()
            found = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except OSError as error:
        raise BadDefinition(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadDefinition(f"{path}: not UTF-8 at byte {error.start}") from None
    except (RecursionError, ValueError, OverflowError) as error:
        # What PyYAML itself does not catch: a date that does not exist, say.
        raise BadDefinition(f"{path} is not usable YAML: {error}") from None
    except yaml.YAMLError as error:
        line, problem = line_and_problem(error)
        raise BadDefinition(f"{path}, line {line}: it is not usable YAML: {problem}") from None
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadDefinition(
            f"{path}, line 1: it must be a list of definitions (each begins with '- name:'), "
            f"not {type(found).__name__}"
        )
    return [
        (node.start_mark.line + 1, fields) for node, fields in zip(root.value, found, strict=True)
    ]
