import stat

import pytest

from hashring.driver import DriverURL
from hashring.telemetry.config import AgentConfig, BadConfig, default_member, default_url


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
        AgentConfig(backend_url="memory://", **{setting: value})


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
