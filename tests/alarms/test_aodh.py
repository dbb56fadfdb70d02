"""The state machine beside Aodh's own evaluators, on random sequences of values."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hashring.alarms.machine import decided, insufficient, judged
from hashring.alarms.model import Comparison, Leaf, State, rule_of

RELEASE = "aodh==23.0.0"
SEQUENCES = 100_000


def a_leaf(chance, query):
    operator = chance.choice(list(Comparison)).value
    threshold = float(chance.randint(0, 2))
    return {"query": query, "comparison_operator": operator, "threshold": threshold}


def an_expression(chance, queries, depth=0):
    if depth and (depth == 3 or chance.random() < 0.6):
        queries.append(f"q{len(queries)}")
        return {"type": "prometheus", **a_leaf(chance, queries[-1])}
    parts = [an_expression(chance, queries, depth + 1) for _ in range(chance.randint(1, 3))]
    return {chance.choice(["and", "or"]): parts}


def a_case(chance):
    queries = []
    if chance.random() < 0.5:
        kind, rule = "prometheus", a_leaf(chance, "q0")
        queries = ["q0"]
    else:
        kind, rule = "composite", an_expression(chance, queries)
    windows = [
        {
            query: [float(chance.randint(0, 2)) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))]
            for query in queries
        }
        for _ in range(6)
    ]
    return {"type": kind, "rule": rule, "windows": windows, "repeat": chance.random() < 0.3}


def without_causes(case, windows):
    """Leave out which rules were the cause: Aodh names those alone that it came to evaluate."""
    if case["type"] == "prometheus":
        return windows
    return [[[state, text.split("due to rules:")[0]] for state, text in one] for one in windows]


def ours(case):
    rule = rule_of(case["type"], case["rule"])
    leaves = [rule] if isinstance(rule, Leaf) else list(rule.leaves())
    state, found = State.UNKNOWN, []
    for window in case["windows"]:
        judgements = []
        for _, leaf in leaves:
            values = window[leaf.query]
            compared = leaf.comparison_operator, leaf.threshold
            judgements.append(judged(values, *compared) if values else insufficient((), 0))
        change = decided(state, rule, judgements, repeat=case["repeat"]).change
        found.append([] if change is None else [[str(change.state), change.reason]])
        state = state if change is None else change.state
    return found


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_machine_agrees_with_aodhs_evaluators_on_random_sequences(new_environment):
    environment = new_environment()
    environment.install(RELEASE)
    chance = random.Random(23)
    cases = [a_case(chance) for _ in range(SEQUENCES)]
    path = environment.work / "cases.json"
    path.write_text(json.dumps(cases))
    script = Path(__file__).with_name("aodh_oracle.py")
    theirs = json.loads(environment.run("-W", "ignore", script, path).splitlines()[-1])
    assert len(theirs) == SEQUENCES
    for case, wanted in zip(cases, theirs, strict=True):
        found = without_causes(case, ours(case))
        assert found == without_causes(case, wanted), case
