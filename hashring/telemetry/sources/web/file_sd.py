"""Files of targets, read by the rules of Prometheus's ``file_sd_configs``.

Prometheus reads YAML into texts: a plain ``12``, ``true`` or ``1.10`` is what stands there. JSON
has types, so a number in the place of a text is an error there. A file is read whole or not at all.
What a target is, and whether it can be asked, is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from hashring.errors import MissingDependency

try:
    import yaml
except ImportError as error:  # pragma: no cover - the tests of the wheel run without PyYAML
    raise MissingDependency("the telemetry agent", "PyYAML", "telemetry") from error

from hashring.telemetry.errors import BadTargets
from hashring.telemetry.model import bounded_yaml
from hashring.telemetry.model.documents import NoKeyTwice

__all__ = ["MAX_BYTES", "BadTargets", "TargetGroup", "read"]

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of a file, at most."""

_MAX_VALUES = 1_000_000
"""Values in a file of JSON, about. Parsing is one call that no other thread runs beside, the
heartbeat neither: 0.5 s for so many of the dearest, 0.05 s where they are texts."""


class TargetGroup(NamedTuple):
    """An entry of a file.

    Attributes:
        place: file, line and entry, for messages.
        targets: as they stand in the file; one may be empty.
        labels: texts by name. One whose value is empty is not there, as for Prometheus.
    """

    place: str
    targets: tuple[str, ...]
    labels: Mapping[str, str]


class _Wrong(Exception):
    """What is wrong with one entry, for a message that says where it stands."""


def read(path: str, content: bytes, *, any_label: bool = False) -> list[TargetGroup]:
    r"""Return the entries of a file.

    Args:
        path: its name, which tells JSON (``.json``, in any case) from YAML.
        content: what stands in it.
        any_label: names of labels may be any texts, not only Prometheus's.

    Raises:
        BadTargets: Prometheus would not take the file; the message names file, line and entry.

    Example:
        >>> [group] = read("a.yaml", b"- targets: [web1:80]\n  labels: {rack: 12, ver: 1.10}")
        >>> group.place, group.targets, group.labels
        ('a.yaml, line 1, entry 1', ('web1:80',), {'rack': '12', 'ver': '1.10'})
    """
    is_json = path.lower().endswith(".json")
    entries, lines = _from_json(path, content) if is_json else _from_yaml(path, content)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise BadTargets(
            f"{path}, line 1: it must be a list of entries with targets and labels, "
            f"not {type(entries).__name__}"
        )
    found = []
    for number, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        place = f"{path}, line {line}, entry {number + 1}"
        try:
            found.append(_group(place, _folded(entry) if is_json else entry, any_label))
        except _Wrong as wrong:
            raise BadTargets(f"{place}: {wrong}") from None
    return found


_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


def _group(place: str, entry: Any, any_label: bool) -> TargetGroup:
    if not isinstance(entry, dict):
        _refuse("an entry", entry, "a mapping with targets and labels")
    if unknown := entry.keys() - {"targets", "labels"}:
        names = ", ".join(repr(str(name)[:100]) for name in sorted(unknown, key=str))
        raise _Wrong(f"the fields must be targets and labels alone, not {names}")
    targets, labels = entry.get("targets"), entry.get("labels")
    targets = [] if targets is None else targets
    labels = {} if labels is None else labels
    if not isinstance(targets, list):
        _refuse("targets", targets, "a list")
    if not isinstance(labels, dict):
        _refuse("labels", labels, "a mapping of texts")
    for target in targets:
        if not isinstance(target, str | None):
            _refuse("a target", target, "a text; put it in quotes")
    for name, value in labels.items():
        if not (isinstance(name, str) and (any_label or _LABEL.fullmatch(name))):
            raise _Wrong(
                f"the name of a label must be of letters, digits and _, no digit first, "
                f"not {str(name)[:100]!r}"
            )
        if not isinstance(value, str | None):
            _refuse(f"the label {name!r}", value, "a text; put it in quotes")
    return TargetGroup(
        place,
        tuple(_encodable(target or "") for target in targets),
        {_encodable(name): _encodable(value) for name, value in labels.items() if value},
    )


_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair: JSON can spell it, UTF-8 cannot


def _encodable(text: str) -> str:
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _refuse(what: str, value: object, wanted: str) -> NoReturn:
    # A text or a mapping may hold a secret.
    shown = f" {value}" if isinstance(value, bool | int | float) else ""
    raise _Wrong(f"{what} must be {wanted}, not {_KINDS.get(type(value), 'nothing')}{shown}")


_KINDS = {
    dict: "a mapping",
    list: "a list",
    str: "a text",
    bool: "the boolean",
    int: "the number",
    float: "the number",
}


def _folded(entry: Any) -> Any:
    """Return an entry with its fields' names in small letters: to Go's JSON they are all one."""
    if not isinstance(entry, dict):
        return entry
    return {name.lower(): value for name, value in entry.items()}


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


class _Lines(Iterator[int]):
    """The lines on which the entries of a JSON list begin, found when the next one is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = text.find("[") + 1
        self._line = 1
        self._counted = 0

    def __next__(self) -> int:
        begin = _BLANKS.match(self._text, self._place).end()  # type: ignore[union-attr]
        if begin >= len(self._text) or self._text[begin] == "]":
            raise StopIteration
        self._line += self._text.count("\n", self._counted, begin)
        self._counted = begin
        self._place = _DECODER.raw_decode(self._text, begin)[1]
        return self._line


_BLANKS = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


def _from_json(path: str, content: bytes) -> tuple[Any, Iterator[int]]:
    # As Go does: what is no UTF-8 becomes the replacement character.
    text = content.decode(errors="replace")
    if sum(map(text.count, ",[{")) > _MAX_VALUES:
        raise BadTargets(
            f"{path}, line 1: it has more than {_MAX_VALUES} values; let several files have them"
        )
    try:
        return json.loads(text, parse_constant=_no_constant), _Lines(text)
    except json.JSONDecodeError as error:
        raise BadTargets(
            f"{path}, line {error.lineno}: it is not JSON ({error.msg}, column {error.colno}); "
            "is it half written? Write to another file and rename that"
        ) from None
    except ValueError as error:
        raise BadTargets(f"{path}, line 1: it is not JSON: {error}") from None
    except RecursionError:
        raise BadTargets(f"{path}, line 1: it is nested too deeply") from None


def _null_and_merge() -> dict[str, list[Any]]:
    """Return PyYAML's rules for plain values, by first character, without those of other types."""
    kept = {
        first: [rule for rule in rules if rule[0].endswith((":null", ":merge"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return {first: rules for first, rules in kept.items() if rules}


class _Texts(NoKeyTwice, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Every plain value is the text that stands in the file, but for null."""

    yaml_implicit_resolvers = _null_and_merge()

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            # To Prometheus a key that replaces a merged one stands twice, too.
            self.flatten_mapping(node)
        return super().construct_mapping(node, deep)

    def text(self, node: Any) -> str:
        return str(self.construct_scalar(node))

    def binary(self, node: Any) -> str:
        return self.construct_yaml_binary(node).decode(errors="replace")


for _kind in ("int", "float", "bool", "timestamp"):
    _Texts.add_constructor(f"tag:yaml.org,2002:{_kind}", _Texts.text)
_Texts.add_constructor("tag:yaml.org,2002:binary", _Texts.binary)


def _from_yaml(path: str, content: bytes) -> tuple[Any, Iterator[int]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadTargets(f"{path}, line {line}: it is not UTF-8") from None
    try:
        bounded_yaml.check(text, max_bytes=MAX_BYTES)
        loader = _Texts(text)
        try:
            # What follows a line '---' is not looked at, as with Prometheus.
            root = loader.get_node() if loader.check_node() else None
            found = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or "unreadable"
        raise BadTargets(
            f"{path}, line {line}: it is not YAML ({problem}); "
            "is it half written? Write to another file and rename that"
        ) from None
    except (RecursionError, ValueError) as error:
        raise BadTargets(f"{path}, line 1: it is not usable YAML: {error}") from None
    nodes = root.value if isinstance(root, yaml.SequenceNode) else []
    return found, (node.start_mark.line + 1 for node in nodes)
