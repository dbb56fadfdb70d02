"""Alarms, their rules, states and time constraints, as typed models: checked where they come from.

The shapes and names are those of Aodh's API v2, so files, database and API have one definition.
Rules of our own are ``hashring_threshold``, and ``evaluation_periods`` of ``prometheus``. This
module knows no file, no database and no clock; the URLs of actions are checked by who has the
plug-ins.
"""

from __future__ import annotations

import enum
import math
import zoneinfo
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from croniter import croniter
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from hashring.alarms.errors import BadAlarm
from hashring.telemetry.model.suggestions import meant
from hashring.url import bears_secret, looks_secret, masked, shown

__all__ = [
    "RULES",
    "Alarm",
    "Comparison",
    "CompositeRule",
    "Leaf",
    "Problem",
    "PrometheusRule",
    "Rule",
    "SampleRule",
    "Severity",
    "State",
    "TimeConstraint",
    "alarm_of",
    "problem_of",
]

MOST_PERIODS = 100
_MOST_LEAVES = 100
_MOST_DEPTH = 20


class State(enum.StrEnum):
    """The state of an alarm; the texts are those of the API and the database."""

    OK = "ok"
    ALARM = "alarm"
    UNKNOWN = "insufficient data"


class Severity(enum.StrEnum):
    """How bad it is. It is carried along, and decides nothing here."""

    LOW = "low"
    MODERATE = "moderate"
    CRITICAL = "critical"


class Comparison(enum.StrEnum):
    """How a value is compared with the threshold: ``value < threshold`` for ``lt``."""

    LT = "lt"
    LE = "le"
    EQ = "eq"
    NE = "ne"
    GE = "ge"
    GT = "gt"


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _zone(name: str) -> str:
    if name:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("must be a time zone such as Europe/Berlin, or empty") from None
    return name


def _cron(text: str) -> str:
    try:
        croniter(text)
    except Exception:  # whatever it stumbles over
        raise ValueError(
            "must be a time as cron writes it: minute hour day month weekday, '0 8 * * 1-5'"
        ) from None
    return text


_Text = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
_Finite = Annotated[float, AfterValidator(_finite)]
_Seconds = Annotated[float, Field(gt=0, le=10 * 366 * 86_400)]
_Periods = Annotated[int, Field(ge=1, le=MOST_PERIODS)]
_URL = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeConstraint(_Strict):
    """A time in which an alarm is evaluated; it is, in any of its constraints.

    Attributes:
        name: unique in the alarm.
        description: for people.
        start: when it begins, as cron writes it.
        duration: seconds from each start.
        timezone: of ``start``, such as ``Europe/Berlin``; empty: UTC.
    """

    name: _Name
    description: str = ""
    start: Annotated[str, AfterValidator(_cron)]
    duration: Annotated[int, Field(ge=0, le=10 * 366 * 86_400)]
    timezone: Annotated[str, AfterValidator(_zone)] = ""


class _Threshold(_Strict):
    comparison_operator: Comparison = Comparison.EQ
    threshold: _Finite
    evaluation_periods: _Periods = 1


class PrometheusRule(_Threshold):
    """Compares what a PromQL query gives with a threshold; all series count.

    Attributes:
        query: asked at each window's own time.
        comparison_operator: the value, so compared with the threshold, is outside.
        threshold: what is compared with.
        evaluation_periods: in so many windows in a row all series must be outside (or none).
        scope_to_project: Aodh's: the query is asked of the series of this project alone.
    """

    query: _Text
    scope_to_project: str | None = None


class SampleRule(_Threshold):
    """Compares the agents' own samples, which were posted to us, with a threshold.

    Attributes:
        meter: its name.
        resource: which resources: an id, or a pattern with ``*`` and ``?``.
        aggregation: what is made of the samples of one granule.
        granularity: the length of a granule in seconds.
        evaluation_periods: so many granules, the newest complete ones.
    """

    meter: _Name
    resource: _Name = "*"
    aggregation: Literal["avg", "min", "max", "sum", "count"] = "avg"
    granularity: _Seconds = 60.0


RULES: Mapping[str, type[PrometheusRule | SampleRule]] = {
    "prometheus": PrometheusRule,
    "hashring_threshold": SampleRule,
}
"""The rules with a value, by their types. ``composite`` combines them."""


class Leaf(NamedTuple):
    """A rule with a value in an expression.

    Attributes:
        type: of the rule: a name in :data:`RULES`.
        rule: itself.
    """

    type: str
    rule: PrometheusRule | SampleRule


class CompositeRule(NamedTuple):
    """Rules combined by *and* and *or*.

    Attributes:
        operator: ``"and"`` or ``"or"``.
        parts: what it combines: leaves, or expressions again.
    """

    operator: str
    parts: tuple[Leaf | CompositeRule, ...]

    def leaves(self) -> Iterator[Leaf]:
        """Iterate over the rules with a value, from left to right."""
        for part in self.parts:
            if isinstance(part, Leaf):
                yield part
            else:
                yield from part.leaves()


Rule: TypeAlias = Leaf | CompositeRule
"""What an alarm evaluates."""


class Alarm(_Strict):
    """An alarm as its user defines it.

    Attributes:
        name: for people, and unique among the alarms of the files.
        type: of its rule.
        rule: its fields; :meth:`parsed` is their model.
        description: for people.
        enabled: it is evaluated.
        severity: is sent along.
        repeat_actions: the actions of its state are sent in each window, not on a change alone.
        ok_actions, alarm_actions, insufficient_data_actions: URLs that are told when it enters the
            state.
        time_constraints: it is evaluated in any of them; always, where there are none.
    """

    name: _Name
    type: str
    rule: dict[str, Any]
    description: str = ""
    enabled: bool = True
    severity: Severity = Severity.LOW
    repeat_actions: bool = False
    ok_actions: list[_URL] = Field(default_factory=list, max_length=50)
    alarm_actions: list[_URL] = Field(default_factory=list, max_length=50)
    insufficient_data_actions: list[_URL] = Field(default_factory=list, max_length=50)
    time_constraints: list[TimeConstraint] = Field(default_factory=list, max_length=50)

    @model_validator(mode="before")
    @classmethod
    def _rule_by_type(cls, value: Any) -> Any:
        """Take ``prometheus_rule`` for ``rule``, as the API calls it."""
        if not isinstance(value, dict):
            return value
        name = f"{value.get('type')}_rule"
        if name in value and "rule" not in value:
            value = {key: one for key, one in value.items() if key != name} | {"rule": value[name]}
        return value

    def parsed(self) -> Rule:
        """Return the rule as its model.

        Raises:
            BadAlarm: it is wrong; :func:`alarm_of` has checked it before.
        """
        return rule_of(self.type, self.rule)

    def actions(self, state: State) -> list[str]:
        """Return the URLs that are told of a state."""
        return {
            State.OK: self.ok_actions,
            State.ALARM: self.alarm_actions,
            State.UNKNOWN: self.insufficient_data_actions,
        }[state]

    @property
    def all_actions(self) -> Iterator[tuple[str, str]]:
        """The field and the URL of each action."""
        for field in ("ok_actions", "alarm_actions", "insufficient_data_actions"):
            for url in getattr(self, field):
                yield field, url


class Problem(NamedTuple):
    """What is wrong with an alarm.

    Attributes:
        path: where in it: keys of mappings and numbers in lists, from the outside in.
        text: what is wrong, with the value unless it may be a secret.
    """

    path: tuple[str | int, ...]
    text: str

    def __str__(self) -> str:
        field = ".".join(str(part) for part in self.path)
        return f"{field}: {self.text}" if field else self.text


class _Wrong(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def alarm_of(value: Any) -> Alarm:
    """Return the alarm that a mapping defines, its rule checked.

    Raises:
        BadAlarm: it is wrong; the message names the field. :func:`problem_of` has it in parts.

    Example:
        >>> rule = {"query": "up", "comparison_operator": "lt", "threshold": 1}
        >>> alarm_of({"name": "down", "type": "prometheus", "rule": rule}).severity
        <Severity.LOW: 'low'>
        >>> alarm_of({"name": "down", "type": "prometheus", "rule": rule | {"treshold": 1}})
        Traceback (most recent call last):
        hashring.alarms.errors.BadAlarm: rule.treshold: unknown field (did you mean 'threshold'?)
    """
    problem = problem_of(value)
    if problem is not None:
        raise BadAlarm(str(problem))
    return Alarm.model_validate(value)


def problem_of(value: Any) -> Problem | None:
    """Return the first thing that is wrong with an alarm's definition; ``None``: nothing is."""
    if not isinstance(value, dict):
        return Problem((), f"an alarm must be a mapping of fields to values, not {shown(value)}")
    field = f"{value.get('type')}_rule"
    known = [*Alarm.model_fields, field]
    if (wrong := _unknown(value, known)) is not None:
        return wrong
    if field in value and "rule" in value:
        return Problem((field,), "is given beside 'rule', which is the same: drop one of them")
    try:
        found = Alarm.model_validate(value)
    except ValidationError as error:
        return _said(error, value, field)
    prefix = (field if field in value else "rule",)
    names = [constraint.name for constraint in found.time_constraints]
    for number, name in enumerate(names):
        if name in names[:number]:
            return Problem(("time_constraints", number, "name"), f"{shown(name)} stands twice")
    try:
        _rule(found.type, found.rule, prefix, 0)
    except _Wrong as error:
        return error.problem
    return None


def rule_of(kind: str, value: Any) -> Rule:
    """Return the rule of a type.

    Raises:
        BadAlarm: it is wrong.
    """
    try:
        found = _rule(kind, value, ("rule",), 0)
    except _Wrong as error:
        raise BadAlarm(str(error.problem)) from None
    return found


def _rule(kind: str, value: Any, path: tuple[str | int, ...], depth: int) -> Rule:
    if kind == "composite":
        found = _expression(value, path, depth)
        if isinstance(found, Leaf):
            raise _Wrong(Problem(path, "must have one key, 'and' or 'or', with a list of rules"))
        if len(list(found.leaves())) > _MOST_LEAVES:
            raise _Wrong(Problem(path, f"has more than {_MOST_LEAVES} rules"))
        return found
    return _leaf(kind, value, path)


def _leaf(kind: str, value: Any, path: tuple[str | int, ...]) -> Leaf:
    model = RULES.get(kind)
    if model is None:
        known = [*RULES, "composite"]
        where = path if "type" in value else path[:-1]
        raise _Wrong(
            Problem(
                (*where, "type"),
                f"{shown(kind)} is not evaluated here{meant(kind, known)}; there are: "
                f"{', '.join(known)}",
            )
        )
    fields = {key: one for key, one in value.items() if key != "type"}
    if (wrong := _unknown(fields, [*model.model_fields], path)) is not None:
        raise _Wrong(wrong)
    try:
        return Leaf(kind, model.model_validate(fields))
    except ValidationError as error:
        raise _Wrong(_said(error, fields, "", path)) from None


def _expression(value: Any, path: tuple[str | int, ...], depth: int) -> Rule:
    if not isinstance(value, dict):
        raise _Wrong(Problem(path, f"must be a rule, not {shown(value)}"))
    if depth > _MOST_DEPTH:
        raise _Wrong(Problem(path, f"is nested more than {_MOST_DEPTH} levels deep"))
    if len(value) == 1 and (operator := next(iter(value))) in ("and", "or"):
        parts = value[operator]
        if not isinstance(parts, list) or not parts:
            raise _Wrong(Problem((*path, operator), "must be a list of rules"))
        return CompositeRule(
            operator,
            tuple(
                _expression(part, (*path, operator, number), depth + 1)
                for number, part in enumerate(parts)
            ),
        )
    if "type" not in value:
        raise _Wrong(Problem(path, "must have one key, 'and' or 'or', or be a rule with a 'type'"))
    return _leaf(str(value["type"]), value, path)


def _unknown(
    value: Mapping[Any, Any], known: list[str], path: tuple[str | int, ...] = ()
) -> Problem | None:
    for name in value:
        if name not in known:
            hint = meant(name, known) or f"; there are: {', '.join(sorted(known))}"
            return Problem((*path, str(name)), f"unknown field{hint}")
    return None


_SAID = {
    "missing": "is missing",
    "finite_number": "must be a finite number",
}


def _said(
    error: ValidationError, value: Any, rule: str, path: tuple[str | int, ...] = ()
) -> Problem:
    first = error.errors(include_url=False)[0]
    where = tuple(first["loc"])
    if where[:1] == ("rule",) and rule in value:
        where = (rule, *where[1:])
    if first["type"] == "missing":
        return Problem((*path, *where), "is missing")
    text = _SAID.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    return Problem((*path, *where), f"{text}, not {_shown(where, first.get('input'))}")


def _shown(path: tuple[str | int, ...], value: Any) -> str:
    """Return a value for a message, without what may be a secret."""
    if any(looks_secret(str(part)) for part in path):
        return "'***'"
    if isinstance(value, str):
        return repr(masked(value)) if bears_secret(value) or "://" in value else shown(value)
    return shown(value)
