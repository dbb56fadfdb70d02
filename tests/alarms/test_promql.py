"""PromQL narrowed to a project: every selector is, whatever stands around it, or it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.alarms.errors import BadQuery
from hashring.alarms.sources.promql import narrowed

ONE = '{project="p"}'


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("up", f"up{ONE}"),
        ("sum(up) by (job)", f"sum(up{ONE}) by (job)"),
        ("sum by (up) (up)", f"sum by (up) (up{ONE})"),
        ("a / on (x) group_left (y) b", f"a{ONE} / on (x) group_left (y) b{ONE}"),
        ("a / ignoring(x) group_right b", f"a{ONE} / ignoring(x) group_right b{ONE}"),
        ("a > bool 3", f"a{ONE} > bool 3"),
        ('{__name__=~"a.*"}', '{project="p", __name__=~"a.*"}'),
        ("a{}", f"a{ONE}"),
        ('a{b="}", c!~`{`,}', 'a{project="p", b="}", c!~`{`,}'),
        ("max_over_time(rate(a[5m])[1h:1m])", f"max_over_time(rate(a{ONE}[5m])[1h:1m])"),
        ("a offset -1h30m @ end()", f"a{ONE} offset -1h30m @ end()"),
        ("a # {\n+ b", f"a{ONE} # {{\n+ b{ONE}"),
        ("count(count)", f"count(count{ONE})"),
        ("count by (x) (by)", f"count by (x) (by{ONE})"),
        ("a and b or c unless d", f"a{ONE} and b{ONE} or c{ONE} unless d{ONE}"),
        ("1e-3 * .5 + 0x1f - Inf > -a", f"1e-3 * .5 + 0x1f - Inf > -a{ONE}"),
        (
            'label_replace(up, "a", "$1", "b", "up")',
            f'label_replace(up{ONE}, "a", "$1", "b", "up")',
        ),
        ("time() - vector(1)", "time() - vector(1)"),
        ('{"a.b", c="d"}', '{project="p", "a.b", c="d"}'),
    ],
)
def test_every_selector_of_a_query_is_narrowed_and_nothing_else(query, wanted):
    assert narrowed(query, "project", "p") == wanted


@pytest.mark.parametrize(
    "query",
    [
        *("", "a b", "sum(", "up)", "a[5m", "a{", "'x", "a $ b", "a by (x)", "foo bar(x)"),
        *('a{b="x" or c="d"}', "a offset b", "sum(a) fill(b)", "a[b{c}]", "a[5m](b)", "info(a)"),
    ],
)
def test_a_query_that_is_not_understood_is_refused(query):
    with pytest.raises(BadQuery, match="narrowed to a project"):
        narrowed(query, "project", "p")


def test_a_project_cannot_break_out_of_its_label():
    assert narrowed("up", "project", 'p"} or up{x="') == r'up{project="p\"} or up{x=\""}'


@given(st.text(alphabet="ab_:(){}[]\"'`,=~!<>+-*/ \n#5m.@", max_size=40))
def test_a_query_that_is_narrowed_twice_has_two_labels_in_each_selector(query):
    try:
        once = narrowed(query, "project", "p")
    except BadQuery:
        return
    assert narrowed(once, "label", "q").count('label="q"') == once.count('project="p"')
