"""Alarms, their rules, states and time constraints, as typed models: checked where they come from.

The shapes and names are those of Aodh's API v2, so files, database and API have one definition.
Rules of our own are ``hashring_threshold``, and ``evaluation_periods`` of ``prometheus``. This
module knows no file, no database and no clock; the URLs of actions are checked by who has the
plug-ins.
"""

from __future__ import annotations

import enum
import json
import math
import zoneinfo
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from croniter import CroniterBadDateError, croniter
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
from hashring.alarms.problems import Problem, Wrong, said, unknown
from hashring.telemetry.model.suggestions import meant
from hashring.url import shown

__all__ = [
    "RULES",
    "Alarm",
    "Comparison",
    "CompositeRule",
    "EventCondition",
    "EventRule",
    "GnocchiMetricsRule",
    "GnocchiResourceRule",
    "GnocchiResourcesRule",
    "Leaf",
    "Problem",
    "PrometheusRule",
    "Rule",
    "SampleRule",
    "Severity",
    "State",
    "TimeConstraint",
    "alarm_of",
    "event_rule_of",
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
        croniter(text, 0.0, max_years_between_matches=130).get_next(float)  # all that it knows
    except CroniterBadDateError:
        raise ValueError("there is no such time in any year") from None
    except Exception:  # whatever it stumbles over
        raise ValueError(
            "must be a time as cron writes it: minute hour day month weekday, '0 8 * * 1-5'"
        ) from None
    return text


def _search(text: str) -> str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return text
    raise ValueError("must be a search as Gnocchi takes it: JSON such as '{\"=\": {...}}'")


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


class _Gnocchi(_Threshold):
    aggregation_method: _Name
    granularity: _Seconds = 60.0


class GnocchiResourceRule(_Gnocchi):
    """Compares one metric of one resource in Gnocchi; fields as of Aodh."""

    metric: _Name
    resource_id: _Name
    resource_type: _Name = "generic"


class GnocchiMetricsRule(_Gnocchi):
    """Compares an aggregate over some metrics in Gnocchi; fields as of Aodh."""

    metrics: Annotated[list[_Name], Field(min_length=1, max_length=1000)]


class GnocchiResourcesRule(_Gnocchi):
    """Compares an aggregate over a metric of the resources that a search finds in Gnocchi.

    Attributes:
        query: the search: Gnocchi's JSON, as a text.
    """

    metric: _Name
    resource_type: _Name
    query: Annotated[_Text, AfterValidator(_search)]


class EventCondition(_Strict):
    """What an event must have to hit a rule.

    Attributes:
        field: ``traits.NAME``, or a field of the event, with dots between nested ones.
        op: the event's value, so compared with ``value``, hits.
        value: what is compared with; it and a trait are made values of their types before.
        type: of ``value``; empty: a text.
    """

    field: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z.',0-9_-]+$", max_length=255)]
    op: Comparison = Comparison.EQ
    value: Any
    type: Literal["", "string", "integer", "float", "boolean", "datetime"] | None = ""


class EventRule(_Strict):
    """Fires on an event; all conditions must hold.

    Attributes:
        event_type: a pattern with ``*`` and ``?``.
        query: the conditions.
    """

    event_type: _Name = "*"
    query: list[EventCondition] = Field(default_factory=list, max_length=50)


ValueRule: TypeAlias = (
    PrometheusRule | SampleRule | GnocchiResourceRule | GnocchiMetricsRule | GnocchiResourcesRule
)

RULES: Mapping[str, type[ValueRule]] = {
    "prometheus": PrometheusRule,
    "hashring_threshold": SampleRule,
    "gnocchi_resources_threshold": GnocchiResourceRule,
    "gnocchi_aggregation_by_metrics_threshold": GnocchiMetricsRule,
    "gnocchi_aggregation_by_resources_threshold": GnocchiResourcesRule,
}
"""The rules with a value, by their types. ``composite`` combines them."""


class Leaf(NamedTuple):
    """A rule with a value in an expression.

    Attributes:
        type: of the rule: a name in :data:`RULES`.
        rule: itself.
    """

    type: str
    rule: ValueRule


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
    if (wrong := unknown(value, known)) is not None:
        return wrong
    if field in value and "rule" in value:
        return Problem((field,), "is given beside 'rule', which is the same: drop one of them")
    try:
        found = Alarm.model_validate(value)
    except ValidationError as error:
        return said(error, value, field)
    prefix = (field if field in value else "rule",)
    names = [constraint.name for constraint in found.time_constraints]
    for number, name in enumerate(names):
        if name in names[:number]:
            return Problem(("time_constraints", number, "name"), f"{shown(name)} stands twice")
    try:
        if found.type == "event":
            _event_rule(found.rule, prefix)
        else:
            _rule(found.type, found.rule, prefix, 0)
    except Wrong as error:
        return error.problem
    return None


def rule_of(kind: str, value: Any) -> Rule:
    """Return the rule of a type.

    Raises:
        BadAlarm: it is wrong.
    """
    try:
        found = _rule(kind, value, ("rule",), 0)
    except Wrong as error:
        raise BadAlarm(str(error.problem)) from None
    return found


def event_rule_of(value: Any) -> EventRule:
    """Return the rule of an event alarm.

    Raises:
        BadAlarm: it is wrong.
    """
    try:
        return _event_rule(value, ("rule",))
    except Wrong as error:
        raise BadAlarm(str(error.problem)) from None


def _event_rule(value: Any, path: tuple[str | int, ...]) -> EventRule:
    if (wrong := unknown(value, [*EventRule.model_fields], path)) is not None:
        raise Wrong(wrong)
    try:
        return EventRule.model_validate(value)
    except ValidationError as error:
        raise Wrong(said(error, value, "", path)) from None


def _rule(kind: str, value: Any, path: tuple[str | int, ...], depth: int) -> Rule:
    if kind == "composite":
        found = _expression(value, path, depth)
        if isinstance(found, Leaf):
            raise Wrong(Problem(path, "must have one key, 'and' or 'or', with a list of rules"))
        if len(list(found.leaves())) > _MOST_LEAVES:
            raise Wrong(Problem(path, f"has more than {_MOST_LEAVES} rules"))
        return found
    return _leaf(kind, value, path)


def _leaf(kind: str, value: Any, path: tuple[str | int, ...]) -> Leaf:
    model = RULES.get(kind)
    if model is None:
        known = [*RULES, "composite", *(["event"] if len(path) == 1 else [])]
        where = path if "type" in value else path[:-1]
        raise Wrong(
            Problem(
                (*where, "type"),
                f"{shown(kind)} is not evaluated here{meant(kind, known)}; there are: "
                f"{', '.join(known)}",
            )
        )
    fields = {key: one for key, one in value.items() if key != "type"}
    if (wrong := unknown(fields, [*model.model_fields], path)) is not None:
        raise Wrong(wrong)
    try:
        return Leaf(kind, model.model_validate(fields))
    except ValidationError as error:
        raise Wrong(said(error, fields, "", path)) from None


def _expression(value: Any, path: tuple[str | int, ...], depth: int) -> Rule:
    if not isinstance(value, dict):
        raise Wrong(Problem(path, f"must be a rule, not {shown(value)}"))
    if depth > _MOST_DEPTH:
        raise Wrong(Problem(path, f"is nested more than {_MOST_DEPTH} levels deep"))
    if len(value) == 1 and (operator := next(iter(value))) in ("and", "or"):
        parts = value[operator]
        if not isinstance(parts, list) or not parts:
            raise Wrong(Problem((*path, operator), "must be a list of rules"))
        return CompositeRule(
            operator,
            tuple(
                _expression(part, (*path, operator, number), depth + 1)
                for number, part in enumerate(parts)
            ),
        )
    if "type" not in value:
        raise Wrong(Problem(path, "must have one key, 'and' or 'or', or be a rule with a 'type'"))
    return _leaf(str(value["type"]), value, path)
