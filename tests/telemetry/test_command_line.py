import stat

import pytest

from hashring.driver import DriverURL
from hashring.telemetry.config.command_line import BadConfig, agent_settings, default_url
from hashring.telemetry.config.defaults import default_member
from hashring.telemetry.sources.host import machine


@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("interval", 0, "--interval"),
        ("interval", float("nan"), "--interval"),
        ("ttl", -1.0, "--ttl must be a positive number of seconds, not -1.0"),
        ("ttl", float("inf"), "--ttl"),
        ("cycles", 0, "--cycles must be at least 1, not 0"),
        ("group", "", "--group"),
        ("member", "", "--member"),
        ("output", "", "--output"),
        ("on_crash", "shrug", "'shrug'"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_it(setting, value, shown):
    with pytest.raises(BadConfig, match=shown):
        agent_settings(backend_url="memory://", **{setting: value})


def test_the_default_store_lies_in_the_users_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "odd ?#state"))

    url = DriverURL.parse(default_url())

    folder = tmp_path / "odd ?#state" / "hashring"
    assert (url.scheme, url.path) == ("sqlite", str(folder / "agents.db"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_state_folder_that_cannot_be_made_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))

    with pytest.raises(BadConfig, match="give --backend-url"):
        default_url()


def test_no_two_agents_have_one_default_name():
    assert default_member() != default_member()


def test_what_is_polled_is_this_hosts_in_one_group_of_its_own():
    made = agent_settings(backend_url="memory://", interval=7.0)

    assert made.group == f"agents/{machine.host_id()}"
    assert made.host == machine.host_id()
    assert made.poll_timeout == 7.0  # a poll is given up before the next one is due
    assert made.state_dir is None  # samples are published at once
    assert made.retry_backoff == 0  # a store that is away is an error


@pytest.mark.parametrize(
    ("output", "url"),
    [
        ("-", "stdout://"),
        ("/var/log/a b.jsonl", "file:///var/log/a%20b.jsonl"),
        ("udp://sink:4952", "udp://sink:4952"),
    ],
)
def test_an_output_is_a_file_the_standard_output_or_a_publishers_url(output, url):
    assert agent_settings(backend_url="memory://", output=output).output == url
