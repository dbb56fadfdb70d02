"""Run with Aodh installed: what its evaluators make of sequences of values. Prints JSON.

    python aodh_oracle.py CASES.json

A case is a rule, whether actions are repeated, and for each window the values of each query.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any


def main() -> None:
    from aodh.evaluator.composite import CompositeEvaluator
    from aodh.evaluator.gnocchi import GnocchiResourceThresholdEvaluator
    from aodh.evaluator.prometheus import PrometheusEvaluator

    answers: list[Any] = []
    for case in json.loads(Path(sys.argv[1]).read_text()):
        told: list[Any] = []
        values: dict[str, list[float]] = {}
        leaf = PrometheusEvaluator.__new__(PrometheusEvaluator)
        leaf._get_metric_data = lambda query, values=values: [
            types.SimpleNamespace(value=value) for value in values[query]
        ]
        gnocchi = GnocchiResourceThresholdEvaluator.__new__(GnocchiResourceThresholdEvaluator)
        gnocchi._bound_duration = lambda rule: ("", "")
        gnocchi._statistics = lambda rule, start, end, values=values: [
            ("", rule["granularity"], value) for value in values[rule["metric"]]
        ]
        leaves = {"prometheus": leaf, "gnocchi_resources_threshold": gnocchi}
        evaluator = leaves.get(case["type"])
        if evaluator is None:
            evaluator = CompositeEvaluator.__new__(CompositeEvaluator)
            evaluator.rule_name_prefix = "rule"
            evaluator._threshold_evaluators = {
                name: types.SimpleNamespace(obj=one) for name, one in leaves.items()
            }
        evaluator._increment_evaluation_result = lambda *arguments: None
        evaluator._refresh = lambda alarm, state, reason, data, told=told: told.append(
            [str(state), reason]
        )
        alarm = types.SimpleNamespace(
            alarm_id="a",
            project_id="p",
            state="insufficient data",
            time_constraints=[],
            repeat_actions=case["repeat"],
            rule=case["rule"],
        )
        found = []
        for window in case["windows"]:
            values.update(window)
            told.clear()
            evaluator.evaluate(alarm)
            # Without repeated actions Aodh does nothing where the state is the same.
            events = [one for one in told if one[0] != alarm.state or case["repeat"]]
            found.append(events)
            for state, _ in events:
                alarm.state = state
        answers.append(found)
    sys.stdout.write(f"{json.dumps(answers)}\n")


if __name__ == "__main__":
    main()
