"""The state machine of an alarm: from the values of one window to its next state. Pure.

It knows no clock, no source and no database. On the same values it decides as Aodh's evaluators do
(``ThresholdEvaluator``, ``PrometheusEvaluator``, ``CompositeEvaluator``), which a test compares it
with. What is different, on purpose:

1. A source that does not answer says nothing of the values: the state stays for some windows.
2. ``evaluation_periods`` of a rule with one value a window: the answer must hold in so many windows
in
   a row. Until there have been so many, the state stays.
3. A composite rule of which a part cannot be asked still has a state where the others decide it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hashring.alarms.model import Comparison, CompositeRule, Leaf, Rule, State

__all__ = ["Change", "Judgement", "Verdict", "decided", "insufficient", "judged", "over_windows"]

_COMPARED: Mapping[Comparison, Callable[[float, float], bool]] = {
    Comparison.LT: operator.lt,
    Comparison.LE: operator.le,
    Comparison.EQ: operator.eq,
    Comparison.NE: operator.ne,
    Comparison.GE: operator.ge,
    Comparison.GT: operator.gt,
}

_SIDES = {State.ALARM: "outside their threshold.", State.OK: "inside their threshold."}


class Judgement(NamedTuple):
    """What the values of one rule say.

    Attributes:
        state: the state that they mean; ``None``: they do not agree, or do not tell yet.
        trending: where they do not agree, the side of the last one.
        values: the values themselves.
        outside: how many of them are outside of the threshold.
        wanted: how many were wanted, for the reason where they are too few.
        away: why the source could not be asked; then nothing else is said.
    """

    state: State | None
    trending: State | None = None
    values: tuple[float, ...] = ()
    outside: int = 0
    wanted: int = 1
    away: str | None = None


class Change(NamedTuple):
    """What one window makes of an alarm: it enters a state, or its actions are repeated.

    Attributes:
        state: the state from now on; the present one, where its actions are repeated.
        reason: for people; the texts are Aodh's.
        data: for programs; the fields are Aodh's.
    """

    state: State
    reason: str
    data: Mapping[str, Any]


class Verdict(NamedTuple):
    """What the rule of an alarm says in one window.

    Attributes:
        change: what becomes of it; ``None``: nothing.
        away: why it could not be evaluated; ``None``: it was.
    """

    change: Change | None
    away: str | None = None


def judged(values: Sequence[float], comparison: Comparison, threshold: float) -> Judgement:
    """Return what values say: all outside of the threshold, none, or some.

    >>> judged([3.0, 5.0], Comparison.GT, 2.0).state, judged([1.0], Comparison.GT, 2.0).state
    (<State.ALARM: 'alarm'>, <State.OK: 'ok'>)
    >>> judged([3.0, 1.0], Comparison.GT, 2.0).trending
    <State.OK: 'ok'>
    """
    if not values:
        raise ValueError("no value: nothing can be judged by that")
    compared = [_COMPARED[comparison](value, threshold) for value in values]
    outside = sum(compared)
    if outside in (0, len(values)):
        state = State.ALARM if outside else State.OK
        return Judgement(state, None, tuple(values), outside)
    trending = State.ALARM if compared[-1] else State.OK
    return Judgement(None, trending, tuple(values), outside)


def insufficient(values: Sequence[float], wanted: int) -> Judgement:
    """Return that there are fewer values than are wanted."""
    return Judgement(State.UNKNOWN, None, tuple(values), 0, wanted)


_MARKS = {State.ALARM: "a", State.OK: "o"}
_STATES = {"a": State.ALARM, "o": State.OK}


def over_windows(past: str, now: Judgement, periods: int) -> tuple[str, Judgement]:
    """Return what the last windows together say, and what to remember of them.

    Args:
        past: what the last call returned: a letter for each window, the newest last.
        now: what this window's values say.
        periods: how many windows must agree.

    Example:
        >>> outside = judged([9.0], Comparison.GT, 1.0)
        >>> past, first = over_windows("", outside, 2)
        >>> first.state, over_windows(past, outside, 2)[1].state
        (None, <State.ALARM: 'alarm'>)
    """
    if now.away is not None:
        return past, now  # this window says nothing
    if now.state is State.UNKNOWN:
        return "", now
    side = now.state if now.state is not None else now.trending
    assert side is not None
    mark = _MARKS[side] if now.state is not None else _MARKS[side].upper()
    past = (past + mark)[-periods:]
    if periods == 1:
        return past, now
    if len(past) < periods:
        return past, now._replace(state=None, trending=None)
    if len(set(past)) == 1 and past[0] in _STATES:
        return past, now._replace(state=_STATES[past[0]], trending=None)
    return past, now._replace(state=None, trending=_STATES[mark.lower()])


def decided(
    current: State, rule: Rule, judgements: Sequence[Judgement], *, repeat: bool
) -> Verdict:
    """Return what becomes of an alarm.

    Args:
        current: its state.
        rule: its rule.
        judgements: what each leaf of the rule says, in their order.
        repeat: its actions are repeated in each window.
    """
    if isinstance(rule, Leaf):
        [found] = judgements
        if found.away is not None:
            return Verdict(None, found.away)
        return Verdict(_of_threshold(current, found, repeat))
    return _of_composite(current, rule, judgements, repeat)


def unknown_for(current: State, reason: str) -> Change | None:
    """Return the change of an alarm whose source has been away for too long."""
    if current is State.UNKNOWN:
        return None
    return Change(
        State.UNKNOWN,
        reason,
        {"type": "threshold", "disposition": "unknown", "count": 0, "most_recent": None},
    )


# ---- a rule with a value


def _of_threshold(current: State, found: Judgement, repeat: bool) -> Change | None:
    state = found.state
    if found.trending is not None and (current is State.UNKNOWN or repeat):
        state = found.trending if current is State.UNKNOWN else current
        return _with_reason(current, state, found)
    if state is State.UNKNOWN:
        if current is State.UNKNOWN:
            return None
        wanted = f"{found.wanted} " if found.wanted else ""  # as Aodh, of Prometheus
        reason = f"{wanted}datapoints are unknown"
        return Change(state, reason, _data("unknown", found.wanted, found.values))
    if state is not None and (state is not current or repeat):
        return _with_reason(current, state, found)
    return None


def _with_reason(current: State, state: State, found: Judgement) -> Change:
    count, side = found.outside, "outside"
    if state is State.OK:
        count, side = len(found.values) - found.outside, "inside"
    verb = "Remaining as" if state is current else "Transition to"
    data = _data(side, count, found.values)
    return Change(
        state,
        f"{verb} {state} due to {count} samples {side} threshold, most recent: "
        f"{data['most_recent']}",
        data,
    )


def _data(side: str, count: int, values: Sequence[float]) -> dict[str, Any]:
    last = values[-1] if values else None
    return {"type": "threshold", "disposition": side, "count": count, "most_recent": last}


# ---- rules combined


def _of_composite(
    current: State, rule: CompositeRule, judgements: Sequence[Judgement], repeat: bool
) -> Verdict:
    states = [None if one.away is not None else one.state for one in judgements]
    state = _combined(rule, states)
    if state is None:
        # Values that do not agree change nothing: each such leaf stands for where it came from.
        states = [
            state if one.trending is None else _from(current, one.trending)
            for state, one in zip(states, judgements, strict=True)
        ]
        state = _combined(rule, states)
    if state is None:
        away = next((one.away for one in judgements if one.away is not None), None)
        if away is not None:
            return Verdict(None, away)
        if any(one.state is None and one.trending is None for one in judgements):
            return Verdict(None)  # a leaf waits for more windows
        state = State.UNKNOWN
    if state is current and (not repeat or state is State.UNKNOWN):
        return Verdict(None)
    return Verdict(_told(current, state, rule, states))


def _from(current: State, trending: State) -> State:
    if current is State.UNKNOWN:
        return trending
    return State.OK if trending is State.ALARM else State.ALARM


def _combined(rule: CompositeRule, states: Sequence[State | None]) -> State | None:
    left = iter(states)
    value = _three_valued(rule, left)
    return None if value is None else State.ALARM if value else State.OK


def _three_valued(rule: Rule, states: Any) -> bool | None:
    """Return whether an expression is true, false, or cannot be told (``None``)."""
    if isinstance(rule, Leaf):
        state = next(states)
        return True if state is State.ALARM else False if state is State.OK else None
    found = [_three_valued(part, states) for part in rule.parts]
    decisive = rule.operator == "or"
    if decisive in found:
        return decisive
    return None if None in found else not decisive


def _told(
    current: State, state: State, rule: CompositeRule, states: Sequence[State | None]
) -> Change:
    names = [f"rule{number}" for number in range(1, len(states) + 1)]
    form = _form(rule, iter(names))
    leaves = list(rule.leaves())
    causes = {
        name: {"type": leaf.type, **leaf.rule.model_dump(mode="json", exclude_none=True)}
        for name, one, leaf in zip(names, states, leaves, strict=True)
        if one is state
    }
    verb = "remaining as" if state is current else "transition to"
    side = _SIDES.get(state, "state evaluated to unknown.")
    return Change(
        state,
        f"Composite rule alarm with composition form: {form} {verb} {state}, due to rules: "
        f"{', '.join(sorted(causes))} {side}",
        {"type": "composite", "composition_form": form, "causative_rules": causes},
    )


def _form(rule: Rule, names: Any) -> str:
    if isinstance(rule, Leaf):
        return str(next(names))
    return f"({f' {rule.operator} '.join(_form(part, names) for part in rule.parts)})"
