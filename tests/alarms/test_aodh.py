"""The state machine beside Aodh's own evaluators, on random sequences of values."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from hashring.alarms.machine import decided, insufficient, judged
from hashring.alarms.model import Comparison, Leaf, State, rule_of
from tests.servers import openstack

SLICES, SEQUENCES = 10, 10_000
KINDS = ("prometheus", "gnocchi_resources_threshold")


def a_leaf(chance, kind, query):
    operator = chance.choice(list(Comparison)).value
    compared = {"comparison_operator": operator, "threshold": float(chance.randint(0, 2))}
    if kind == "prometheus":
        return {"query": query, **compared}
    of = {"metric": query, "resource_id": "r", "resource_type": "generic"}
    periods = {"granularity": 60, "evaluation_periods": chance.randint(1, 3)}
    return {**of, **periods, "aggregation_method": "mean", **compared}


def an_expression(chance, queries, depth=0):
    if depth and (depth == 3 or chance.random() < 0.6):
        queries.append(f"q{len(queries)}")
        kind = chance.choice(KINDS)
        return {"type": kind, **a_leaf(chance, kind, queries[-1])}
    parts = [an_expression(chance, queries, depth + 1) for _ in range(chance.randint(1, 3))]
    return {chance.choice(["and", "or"]): parts}


def a_case(chance):
    queries = []
    kind = chance.choice([*KINDS, "composite", "composite"])
    if kind != "composite":
        rule = a_leaf(chance, kind, "q0")
        queries = ["q0"]
    else:
        rule = an_expression(chance, queries)
    windows = [
        {
            query: [float(chance.randint(0, 2)) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))]
            for query in queries
        }
        for _ in range(6)
    ]
    return {"type": kind, "rule": rule, "windows": windows, "repeat": chance.random() < 0.3}


def alike(case, windows):
    """Leave out what is written otherwise, on purpose.

    Of the rules that were a cause, Aodh names those alone that it came to evaluate. Where Gnocchi
    has no point at all, it names the granularity.
    """
    if case["type"] == "composite":
        return [[[state, text.split("due to rules:")[0]] for state, text in one] for one in windows]
    wanted = case["rule"].get("evaluation_periods")
    said = f"{wanted} datapoints are unknown"
    nothing = re.compile(r"No datapoint for granularity \d+")
    return [[[state, nothing.sub(said, text)] for state, text in one] for one in windows]


def judgement(leaf, values):
    """What the values of a rule say; a source gives no more of them than are wanted."""
    wanted = 0 if leaf.type == "prometheus" else leaf.rule.evaluation_periods
    values = values[-wanted:]
    if len(values) < max(wanted, 1):
        return insufficient(values, wanted)
    return judged(values, leaf.rule.comparison_operator, leaf.rule.threshold)


def ours(case):
    rule = rule_of(case["type"], case["rule"])
    leaves = [rule] if isinstance(rule, Leaf) else list(rule.leaves())
    state, found = State.UNKNOWN, []
    for window in case["windows"]:
        judgements = [
            judgement(leaf, window[leaf.rule.query if leaf.type == KINDS[0] else leaf.rule.metric])
            for leaf in leaves
        ]
        change = decided(state, rule, judgements, repeat=case["repeat"]).change
        found.append([] if change is None else [[str(change.state), change.reason]])
        state = state if change is None else change.state
    return found


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(SLICES))
def test_the_machine_agrees_with_aodhs_evaluators_on_random_sequences(number, tmp_path):
    chance = random.Random(f"aodh {number}")
    cases = [a_case(chance) for _ in range(SEQUENCES)]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases))
    script = Path(__file__).with_name("aodh_oracle.py")
    done = subprocess.run(
        [str(openstack.python_with_services()), "-W", "ignore", str(script), str(path)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert len(theirs) == SEQUENCES
    for case, wanted in zip(cases, theirs, strict=True):
        assert alike(case, ours(case)) == alike(case, wanted), case
