import pytest

from hashring.telemetry.cli.audit import Event, audit, read_samples
from hashring.telemetry.cli.show import verdict


def poll(resource, window, member="a", meters=("m1", "m2"), at=None):
    return [
        {
            "id": f"{meter}/{resource}/{window}",
            "resource_id": resource,
            "window": window,
            "timestamp": f"1970-01-01T00:00:{window + 0.1 if at is None else at:09.6f}+00:00",
            "member": member,
        }
        for meter in meters
    ]


def account(samples, *events, resources=("x", "y"), until=20.0):
    return audit(
        (sample for polled in samples for sample in polled),
        resources=resources,
        interval=1.0,
        events=events or (Event("start", 10.0),),
        until=until,
    )


def everything(windows):
    return [poll(resource, window) for window in windows for resource in "xy"]


def test_a_poll_is_made_once_however_many_meters_it_gives():
    [period] = account(everything(range(10, 20)))

    assert (period.windows, period.due, period.made) == (10, 20, 20)
    assert (period.missed, period.repeated, period.late, period.longest_gap) == (0, 0, 0, 0)


def test_a_poll_by_two_members_is_repeated_even_if_they_told_different_meters():
    samples = everything(range(10, 20))
    samples.append(poll("x", 12, member="b", meters=("m2", "m3")))

    [period] = account(samples)

    assert period.repeated == 1


def test_what_is_missed_belongs_to_the_event_before_it():
    samples = [
        polled
        for polled in everything(range(10, 20))
        if not (polled[0]["resource_id"] == "x" and polled[0]["window"] in (14, 15, 17))
    ]

    before, after = account(samples, Event("start", 10.0), Event("kill -9", 13.9))

    assert (before.due, before.missed) == (6, 0)
    assert (after.due, after.missed, after.longest_gap) == (14, 3, 2)
    assert after.last_missed_end == pytest.approx(18.0 - 13.9)


def test_a_poll_after_its_window_is_made_but_late():
    samples = everything(range(10, 20))
    samples[0] = poll("x", 10, at=12.5)

    [period] = account(samples)

    assert (period.made, period.late) == (20, 1)


def test_windows_that_had_not_ended_and_resources_not_asked_for_do_not_count():
    [period] = account([*everything(range(10, 19)), poll("z", 10), poll("z", 10)], until=19.5)

    assert (period.windows, period.due, period.made, period.repeated) == (9, 18, 18, 0)


def test_the_promise_is_kept_where_only_a_crash_cost_polls_and_not_for_long():
    samples = everything([*range(10, 14), *range(17, 20)])

    periods = account(samples, Event("start", 10.0), Event("kill -9", 13.2))

    assert verdict(periods, interval=1.0, ttl=3.0) == []


@pytest.mark.parametrize(
    ("events", "samples", "complaint"),
    [
        ([Event("start", 10.0)], everything(range(11, 20)), "start: 2 polls were missed"),
        (
            [Event("start", 10.0), Event("kill -9", 13.2)],
            everything([*range(10, 14), *range(18, 20)]),
            "kill -9: polls were missed until 4.8 s after it; at most 4 s is promised",
        ),
        (
            [Event("kill -9", 10.0)],
            [*everything(range(10, 20)), poll("x", 15)],
            "kill -9: 1 polls were repeated",
        ),
        ([Event("start", 10.0), Event("join", 20.0)], everything(range(10, 20)), "join: no whole"),
    ],
)
def test_a_broken_promise_is_told(events, samples, complaint):
    found = verdict(account(samples, *events), interval=1.0, ttl=3.0)

    assert any(line.startswith(complaint) for line in found)


def test_a_file_is_read_around_what_is_no_sample(tmp_path):
    path = tmp_path / "samples.jsonl"
    good = b'{"id":"1","resource_id":"x","window":1,"timestamp":"t"}'
    path.write_bytes(good + b'\n{"id":"2","resou\n[1]\n{"id":"3"}\n\n' + good + b'\n{"id')

    assert [sample["id"] for sample in read_samples(path)] == ["1", "1"]
