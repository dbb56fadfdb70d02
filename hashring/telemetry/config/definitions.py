"""Definitions: polling.yaml and pipeline.yaml, in Ceilometer's format, as values.

What they may say, and what is illegal, follows Ceilometer's documentation ("Polling", "Data
processing and pipelines") and its own checks. Three things are stricter and errors: what looks like
a typo of a field, a key that is given twice, and transformers, which Ceilometer
removed. Any other field that nobody reads is ignored, as by Ceilometer, and is named in the log.

This module reads one file and knows neither options nor plug-ins: whether a
discovery or a publisher of some name is installed is checked by those who look for it.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hashring.telemetry.config.coordination import names_this_host
from hashring.telemetry.errors import BadDefinition
from hashring.telemetry.model import bounded_yaml
from hashring.telemetry.model.documents import NoKeyTwice
from hashring.telemetry.model.meters import MeterFilter
from hashring.telemetry.model.suggestions import closest, meant
from hashring.url import shown

__all__ = [
    "BadDefinition",
    "MeterFilter",
    "Pipeline",
    "PipelineSource",
    "Polling",
    "Sink",
    "Source",
    "load_pipeline",
    "load_polling",
    "polling_of",
    "split_discovery",
]

log = logging.getLogger(__name__)

_Entry = TypeVar("_Entry", "Source", "PipelineSource", "Sink")


@dataclasses.dataclass(frozen=True)
class Source:
    """What to poll, and how often.

    Attributes:
        name: unique in its file.
        interval: seconds between two polls.
        meters: which meters.
        resources: static resources; see :mod:`hashring.telemetry.sources.web.targets`.
        discovery: what finds resources, each ``NAME`` or ``NAME://PARAMETER``. Where there are
            neither resources nor discoveries, each pollster's own default discovery counts.
        local: whether the resources are each host's own; ``None``: those at a loopback or
            link-local address are.
    """

    name: str
    interval: float
    meters: MeterFilter
    resources: tuple[str, ...] = ()
    discovery: tuple[str, ...] = ()
    local: bool | None = None


@dataclasses.dataclass(frozen=True)
class PipelineSource:
    """Which samples go to which sinks.

    Attributes:
        name: unique in its file.
        meters: the samples of which meters.
        sinks: names of sinks, in order.
        interval: as in :class:`Source`, where the pipeline says what to poll (until Mitaka);
            ``None``: it does not.
        resources: as in :class:`Source`.
        discovery: as in :class:`Source`.
    """

    name: str
    meters: MeterFilter
    sinks: tuple[str, ...]
    interval: float | None = None
    resources: tuple[str, ...] = ()
    discovery: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sink:
    """Where samples go.

    Attributes:
        name: unique in its file.
        publishers: their URLs, in order.
    """

    name: str
    publishers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Polling:
    """A polling.yaml: its sources, in order."""

    sources: tuple[Source, ...]


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A pipeline.yaml: its sources and sinks, in order."""

    sources: tuple[PipelineSource, ...]
    sinks: tuple[Sink, ...]

    def publishers_for(self, meter: str) -> tuple[str, ...]:
        """Return the URLs of all publishers that get this meter's samples: distinct, in order.

        >>> both = MeterFilter(["*"])
        >>> sinks = (Sink("a", ("stdout://", "udp://one")), Sink("b", ("stdout://",)))
        >>> Pipeline((PipelineSource("all", both, ("a", "b")),), sinks).publishers_for("cpu")
        ('stdout://', 'udp://one')
        """
        sinks = {sink.name: sink for sink in self.sinks}
        found: dict[str, None] = {}
        for source in self.sources:
            if source.meters.allows(meter):
                for name in source.sinks:
                    found.update(dict.fromkeys(sinks[name].publishers))
        return tuple(found)


def polling_of(pipeline: Pipeline) -> Polling | None:
    """Return what a pipeline of the Mitaka era says to poll: its sources that have an interval.

    Returns:
        ``None`` where no source has one: then it says nothing of polling, as today's do.

    >>> polling_of(Pipeline((PipelineSource("all", MeterFilter(["*"]), ("a",)),), ())) is None
    True
    """
    sources = tuple(
        Source(source.name, source.interval, source.meters, source.resources, source.discovery)
        for source in pipeline.sources
        if source.interval is not None
    )
    return Polling(sources) if sources else None


def split_discovery(text: str) -> tuple[str, str]:
    """Split what a source's ``discovery`` names into the discovery and its parameter.

    >>> split_discovery("http-targets:///etc/targets.json"), split_discovery("interface")
    (('http-targets', '/etc/targets.json'), ('interface', ''))
    """
    name, _, parameter = text.partition("://")
    return name, parameter


def load_polling(path: Path | str) -> Polling:
    """Read a polling.yaml.

    Raises:
        BadDefinition: it cannot be read, or something in it is illegal.
    """
    path = Path(path)
    top = _Fields(_read(path), f"{path}", {"sources"}, "polling definition")
    return Polling(_entries(top, "sources", "source", _source))


def load_pipeline(path: Path | str) -> Pipeline:
    """Read a pipeline.yaml: today's, or one of the Mitaka era whose sources say what to poll.

    Raises:
        BadDefinition: it cannot be read, or something in it is illegal.
    """
    path = Path(path)
    data = _read(path)
    if isinstance(data, list):
        raise BadDefinition(
            f"{path}: a list of pipelines, the form before 2014, is no longer known: write "
            "'sources' and 'sinks', each source with the names of its sinks"
        )
    top = _Fields(data, f"{path}", {"sources", "sinks"}, "pipeline definition")
    sinks = _entries(top, "sinks", "sink", _sink)
    known = [sink.name for sink in sinks]
    return Pipeline(
        _entries(top, "sources", "source", lambda fields: _pipeline_source(fields, known)), sinks
    )


# Fields that other releases and other files of Ceilometer's have.
_IGNORED: Mapping[Any, str] = {
    "channels": "what is polled is said by meters",
    "events": "there are no events here",
    "sinks": "where samples go is said by the pipeline definition (pipeline_cfg_file)",
}

_SOURCE_FIELDS = frozenset({"name", "interval", "meters", "resources", "discovery"})


_POLLING_FIELDS = _SOURCE_FIELDS | {"local", "group_id_coordination_expression"}


def _source(fields: _Fields) -> Source:
    fields.check(_POLLING_FIELDS)
    if "interval" not in fields:
        raise fields.bad("interval", "is missing: write the seconds between two polls")
    return Source(
        fields.name,
        fields.seconds("interval"),
        fields.meters("meters"),
        fields.texts("resources", optional=True),
        fields.texts("discovery", optional=True),
        _local(fields),
    )


def _local(fields: _Fields) -> bool | None:
    """Return whether a source says that its resources are each host's own."""
    local = fields.get("local")
    if not isinstance(local, bool | None):
        raise fields.bad("local", f"must be true or false, not {shown(local)}")
    field = "group_id_coordination_expression"
    if not fields.get(field):
        return local
    expression = fields.text(field)
    if fields.get("resources"):
        # As in Ceilometer, which says so, too.
        log.warning("%s: %s is ignored: the source has resources", fields.place, field)
        return local
    if not names_this_host(expression):
        raise fields.bad(
            field,
            f"is {expression!r}, and nothing is evaluated here: what is understood is this host's "
            "name, such as socket.gethostname(), which means 'local: true'. For groups of other "
            "hosts give their agents different values of partitioning_group_prefix",
        )
    if local is False:
        raise fields.bad("local", f"is false, which contradicts the host's name in {field}")
    return True


def _pipeline_source(fields: _Fields, sinks: Sequence[str]) -> PipelineSource:
    # 'counters' is what 'meters' was called before; Ceilometer took both up to Mitaka.
    fields.check(_SOURCE_FIELDS | {"sinks", "counters"})
    if "counters" in fields and "meters" in fields:
        raise fields.bad("counters", "is the old name of 'meters', which is given too: drop it")
    named = fields.texts("sinks")
    for position, name in enumerate(named):
        if name not in sinks:
            raise fields.bad(
                "sinks", f"names {shown(name)}, but there is no such sink{meant(name, sinks)}"
            )
        if name in named[:position]:
            raise fields.bad("sinks", f"names {shown(name)} twice")
    return PipelineSource(
        fields.name,
        fields.meters("counters" if "counters" in fields else "meters"),
        named,
        fields.seconds("interval") if "interval" in fields else None,
        fields.texts("resources", optional=True),
        fields.texts("discovery", optional=True),
    )


def _sink(fields: _Fields) -> Sink:
    fields.check({"name", "publishers", "transformers"})
    if transformers := fields.get("transformers"):
        raise fields.bad(
            "transformers",
            f"has {_transformers(transformers)}: transformers were removed from Ceilometer, "
            "and there are none here. Remove the field, and let the store of the samples derive "
            "rates and aggregates from the meters as they are",
        )
    publishers = fields.texts("publishers")
    # As in Ceilometer, a bare name stands for its URL.
    return Sink(fields.name, tuple(url if "://" in url else f"{url}://" for url in publishers))


def _transformers(value: Any) -> str:
    entries = value if isinstance(value, list) else [value]
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    return ", ".join(shown(name) for name in names)


def _entries(
    top: _Fields, field: str, what: str, make: Callable[[_Fields], _Entry]
) -> tuple[_Entry, ...]:
    """Return the entries of a list of sources or sinks; their names are unique."""
    value = top.get(field)
    if value is None:
        raise top.bad(field, f"is missing: a {top.what} needs at least one {what}")
    if not isinstance(value, list):
        raise top.bad(field, f"must be a list, not {_kind(value)}")
    if not value:
        raise top.bad(field, f"is empty: a {top.what} needs at least one {what}")
    made: dict[str, _Entry] = {}
    for number, entry in enumerate(value, 1):
        place = f"{top.place}: {what} number {number}"
        fields = _Fields(entry, place, None, what)
        fields.name = name = fields.text("name")
        fields.place = f"{top.place}: {what} {shown(name)}"
        if name in made:
            raise BadDefinition(
                f"{top.place}: two {what}s are called {shown(name)}: a name must be unique"
            )
        made[name] = make(fields)
    return tuple(made.values())


class _Fields:
    """A mapping of the file, and where it stands: what is taken out of it is checked.

    Args:
        value: what should be a mapping.
        place: file and entry, for messages.
        known: the fields that there may be; ``None``: see :meth:`check`.
        what: what it is, for messages.
    """

    def __init__(self, value: Any, place: str, known: Collection[str] | None, what: str) -> None:
        self.place = place
        self.what = what
        self.name = ""
        if not isinstance(value, dict):
            raise BadDefinition(
                f"{place}: a {what} must be a mapping of fields to values, not {_kind(value)} "
                f"{shown(value)}"
            )
        self._value: Mapping[Any, Any] = value
        if known is not None:
            self.check(known)

    def __contains__(self, field: str) -> bool:
        return field in self._value

    def get(self, field: str) -> Any:
        return self._value.get(field)

    def bad(self, field: str, problem: str) -> BadDefinition:
        return BadDefinition(f"{self.place}: {field} {problem}")

    def check(self, known: Collection[str]) -> None:
        """Refuse what looks like a typo; name in the log what else nobody will read.

        Raises:
            BadDefinition: a field is unknown, and much like one that is known.
        """
        for field in self._value:
            if field in known:
                continue
            # At the top, where anchors stand, what is given is not what was meant.
            candidates = known if self.name else [one for one in known if one not in self._value]
            if field not in _IGNORED and closest(field, candidates):
                raise BadDefinition(
                    f"{self.place}: unknown field {shown(field)}{meant(field, candidates)}; a "
                    f"{self.what} has: {', '.join(sorted(known))}"
                )
            why = _IGNORED.get(field, f"a {self.what} has: {', '.join(sorted(known))}")
            log.warning("%s: the field %s is ignored: %s", self.place, shown(field), why)

    def text(self, field: str) -> str:
        if self.get(field) is None:
            raise self.bad(field, "is missing")
        return self._text(field, self.get(field))

    def _text(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.bad(
                field,
                f"must be text, not {_kind(value)} {shown(value)}"
                + ("" if isinstance(value, dict | list) else ": put it in quotes"),
            )
        if not value.strip():
            raise self.bad(field, f"must not be empty: {shown(value)}")
        return value

    def texts(self, field: str, *, optional: bool = False) -> tuple[str, ...]:
        value = self.get(field)
        if not isinstance(value, list | None):
            raise self.bad(field, f"must be a list, not {_kind(value)} {shown(value)}")
        if not value and not optional:
            raise self.bad(
                field, "is missing" if field not in self else "is empty: at least one is needed"
            )
        return tuple(self._text(f"{field}, entry {n}", one) for n, one in enumerate(value or [], 1))

    def meters(self, field: str) -> MeterFilter:
        patterns = self.texts(field, optional=field in self)
        try:
            return MeterFilter(patterns)
        except BadDefinition as error:
            raise BadDefinition(f"{self.place}: {error}") from None

    def seconds(self, field: str) -> float:
        value = self.get(field)
        number: float | None = None
        # Ceilometer takes a number in quotes, too.
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = None
        if number is None or not 0 < number < math.inf:
            raise self.bad(field, f"must be a positive number of seconds, not {shown(value)}")
        return number


class _Loader(NoKeyTwice, yaml.SafeLoader):
    """Plain values only, and no key twice in one mapping."""


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadDefinition(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise BadDefinition(f"{path}: cannot be read: {error.strerror}") from None
    try:
        bounded_yaml.check(text)
        value = yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe one
    except yaml.MarkedYAMLError as error:
        raise BadDefinition(f"{path}{_marked(error, text)}") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        # What PyYAML itself does not catch: a date that does not exist, brackets without end.
        raise BadDefinition(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if value is None:
        raise BadDefinition(f"{path}: the file is empty: it needs at least one source")
    return value


def _marked(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    where, line = "", ""
    if mark is not None:
        where = f", line {mark.line + 1}, column {mark.column + 1}"
        lines = text.splitlines()
        line = lines[mark.line].strip() if mark.line < len(lines) else ""
    hint = ""
    if re.match(r"-?\s*[!*]", line):
        hint = ": text that begins with '!' or '*' must be put in quotes"
    return f"{where}: not the YAML of a definition: {error.problem or error.context}{hint}"


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "the text", bool: "the boolean"}
    return names.get(type(value), "nothing," if value is None else f"the {type(value).__name__}")
