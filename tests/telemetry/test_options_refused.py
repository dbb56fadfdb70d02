"""Which options are refused, and that the error names file, line, section, option and value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hashring.telemetry.config.options import load
from hashring.telemetry.errors import BadOption
from tests.telemetry.operators import Write, refused

pytestmark = pytest.mark.usefixtures("bare_machine")


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        ("coordination", "heartbeat = often", "[coordination] heartbeat = 'often': "),
        ("coordination", "heartbeat = 0", "heartbeat = '0': "),
        ("coordination", "heartbeat = nan", "must be a number of seconds"),
        ("coordination", "heartbeat =", "must be a number of seconds"),
        ("coordination", "retry_backoff = -1", "retry_backoff = '-1': "),
        ("coordination", "retry_backoff = 60", "must not be greater than [coordination]"),
        ("coordination", "max_retry_interval = 0.5", "must not be less than [coordination]"),
        ("coordination", "backend_ulr = redis://u:sesame@a", "did you mean 'backend_url'?"),
        ("coordination", "backend_url = redis://u:sesame@a?timeout=1", "heartbeat = 1 s"),
        ("coordination", "backend_url = redis://u:$sesame@a", "a dollar sign is written $$"),
        ("coordination", "backend_url = redis://a?tiemout=1", "did you mean 'timeout'?"),
        ("polling", "batch_size = many", "batch_size = 'many': "),
        ("polling", "batch_size =", "must be a whole number"),
        ("polling", "backend_url = redis://a", "did you mean [coordination] backend_url?"),
        ("compute", "report_stoped_instance_metrics = 1", "'report_stopped_instance_metrics'?"),
        ("hashring", "zzz = 1", "unknown option; [hashring] has: allow_overlap, drain_timeout, "),
        ("central", "partitioning_prefix = a", "did you mean 'partitioning_group_prefix'?"),
        ("compute", "workload_partitioning = maybe", "workload_partitioning = 'maybe': "),
        ("compute", "instance_discovery_method = nova", "'nova': "),
        ("hashring", "ttl = 0", "ttl = '0': Should be greater than or equal to 0.1"),
        ("hashring", "ttl = inf", "ttl = 'inf': Should be less than or equal to"),
        ("hashring", "spread = 1.5", "spread = '1.5': "),
        ("hashring", "spread = nan", "must be a number from 0 to 1"),
        ("hashring", "threads = 0", "threads = '0': "),
        ("hashring", "threads = 2.5", "threads = '2.5': "),
        ("hashring", "spool_bytes = 1", "spool_bytes = '1': "),
        ("hashring", "scrape_protocols = Text", "scrape_protocols = 'Text': "),
        ("hashring", "scrape_protocols =", "must name one of PrometheusProto, "),
        ("hashring", "on_crash = cry", "on_crash = 'cry': "),
        ("hashring", "member =", "must not be empty"),
        ("hashring", "tll = 5", "did you mean 'ttl'?"),
        ("hashring", "token = sesame", "token: a token must have 16 characters at least, not 6"),
        ("hashring", "token = open sesame open sesame", "of printable ASCII characters, without"),
        ("hashring", "token_file = /nobody/has/this", "/nobody/has/this cannot be read: No such"),
        ("Hashring", "sesame_token = sesame", "unknown option"),
        ("DEFAULT", "polling_namespaces = centrl", "polling_namespaces = 'centrl': "),
        ("DEFAULT", "polling_namespaces =", "name central, compute or both"),
        ("DEFAULT", "polling_namespaces = ipmi", "name central, compute or both"),
        ("DEFAULT", "pipeline_cfg_file = ~nobody-of-this-name/x", "there is no such file"),
        ("DEFAULT", "host = $nobody", "a dollar sign is written $$"),
        ("DEFAULT", "libvirt_type = vmware", "libvirt_type = 'vmware': "),
    ],
)
def test_a_bad_option_is_refused_with_file_line_section_option_and_value(
    write: Write, section: str, line: str, said: str
):
    file = write(f"# a comment\n\n[{section}]\n{line}\n")

    message = refused(file)

    assert message.startswith(f"{file}:4: "), message
    assert line.partition(" ")[0] in message
    assert f"[{section if section == 'DEFAULT' else section.lower()}]" in message
    assert said in message
    assert "u:sesame" not in message
    assert "'sesame'" not in message


def test_a_bad_variable_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OS_HASHRING__TTL", "forever")
    assert refused().startswith("environment: OS_HASHRING__TTL = 'forever': ")
    monkeypatch.delenv("OS_HASHRING__TTL")

    monkeypatch.setenv("OS_COORDINATION__BACKEND_ULR", "redis://u:sesame@a")
    message = refused()
    assert "OS_COORDINATION__BACKEND_ULR = 'redis://u:***@a'" in message
    assert "did you mean 'backend_url'?" in message
    monkeypatch.delenv("OS_COORDINATION__BACKEND_ULR")

    monkeypatch.setenv("OS_COORDINATION__BACKEND_URL", "redis://a?timeout=1")
    assert refused().startswith("environment: OS_COORDINATION__BACKEND_URL: [coordination] ")
    monkeypatch.delenv("OS_COORDINATION__BACKEND_URL")

    monkeypatch.setenv("OS_CENTRAL__PARTITIONING_GROUP_PREFIX", "east")
    assert "set OS_POLLING__PARTITIONING_GROUP_PREFIX" in refused()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"ttl": 0}, "--ttl = 0: "),
        ({"threads": 2.5}, "--threads = 2.5: must be a whole number"),
        ({"threads": "many"}, "--threads = 'many': must be a whole number"),
        ({"ttl": "soon"}, "--ttl = 'soon': must be a number of seconds"),
        ({"spread": "wide"}, "--spread = 'wide': must be a number from 0 to 1"),
        ({"on_crash": "cry"}, "--on-crash = 'cry': "),
        ({"host": ""}, "--host = '': must not be empty"),
        ({"cycles": 0}, "--cycles = 0: "),
        ({"patience": -1}, "--patience = -1: "),
        ({"namespaces": ("moon",)}, "--namespaces = 'moon'"),
        ({"namespaces": ("ipmi",)}, "name central, compute or both"),
        (
            {"backend_url": "redis://a?x=1"},
            "--backend-url: redis://a?x=1: unknown option 'x'",
        ),
        ({"backend_url": "nope://a"}, "--backend-url: no driver serves nope://"),
        ({"retry_backoff": 31}, "--retry-backoff = 31: must not be greater than [coordination]"),
        ({"max_retry_interval": 0}, "--max-retry-interval = 0: must not be less than"),
        ({"ttl": 5, "heartbeat": 5}, "--ttl = 5 s must be longer than --heartbeat = 5 s"),
    ],
)
def test_a_bad_override_is_refused_by_its_flag(overrides: dict[str, Any], said: str):
    assert said in refused(**overrides)


def test_a_setting_that_does_not_exist_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="no such settings: tll"):
        load(tll=5)


def test_a_lease_that_does_not_exceed_the_heartbeat_is_refused_with_both(write: Write):
    file = write("[coordination]\nheartbeat = 10\n[hashring]\nttl = 10\n")
    cache = write("[coordination]\nheartbeat=30\nbackend_url=memcached://m?timeout=30\n", "m.conf")

    assert (
        f"{file}:4: [hashring] ttl = 10 s must be longer than "
        f"{file}:2: [coordination] heartbeat = 10 s" in refused(file)
    )
    assert "timeout = 30 s" in refused(cache)
    assert "[coordination] heartbeat = 30 s" in refused(cache)
    assert refused(cache).startswith(f"{cache}:3: ")


def test_the_lease_may_be_said_twice_but_only_if_it_is_the_same(write: Write):
    text = "[coordination]\nbackend_url = redis://a?timeout=20\n[hashring]\nttl = {}\n"
    same, other = write(text.format(20), "a.conf"), write(text.format(15), "b.conf")

    assert load([same]).ttl == 20.0
    assert f"{other}:4: [hashring] ttl = '15' contradicts the 20 s in {other}:2: " in refused(other)
    assert load([other], ttl=5).ttl == 5.0


def test_the_prefix_works_in_its_old_section_but_the_two_must_agree(write: Write):
    text = "[{}]\npartitioning_group_prefix = {}\n"
    old = write(text.format("central", "east"), "old.conf")
    same = write(text.format("polling", "east"), "same.conf")
    other = write(text.format("polling", "west"), "other.conf")

    assert load([old]).group_prefix == "east"
    assert load([old, same]).group_prefix == "east"
    for files in ((old, other), (other, old)):
        message = refused(*files)
        assert f"{other}:2: [polling] partitioning_group_prefix = 'west'" in message
        assert f"{old}:2: [central] partitioning_group_prefix = 'east'" in message


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("host = a\n", 1, "no section has begun"),
        ("[DEFAULT\n", 1, "must end with ]"),
        ("[DEFAULT]\nsesame\n", 2, "No ':' or '='"),
        ("[]\n", 1, "Empty section name"),
        ("[DEFAULT]\n  more\n", 2, "continuation"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_line(
    write: Write, text: str, line: int, said: str
):
    file = write(text)

    message = refused(file)

    assert message.startswith(f"{file}:{line}: ")
    assert said in message
    assert "sesame" not in message


def test_a_missing_file_folder_and_bytes_are_refused(tmp_path: Path):
    (tmp_path / "latin.conf").write_bytes(b"[DEFAULT]\nhost = \xe4\n")

    assert "nowhere.conf: cannot be read: No such file" in refused(tmp_path / "nowhere.conf")
    assert "not UTF-8 at byte 17" in refused(tmp_path / "latin.conf")
    with pytest.raises(BadOption, match=r"--config-dir .*nowhere: cannot be read: No such file"):
        load([], [tmp_path / "nowhere"])
