"""What it takes to make an agent: the same in another process, and read anew on a reload."""

import json
import pickle
import threading

import pytest

from hashring.plugins import UnknownPlugin
from hashring.telemetry.agent.launch import Launch
from hashring.telemetry.config import options
from hashring.telemetry.config.command_line import agent_settings
from hashring.telemetry.errors import BadDefinition


@pytest.fixture
def configured(tmp_path):
    """Return a launch from a configuration file, a polling and a pipeline definition."""

    def make(interval=0.3, publisher=None, **overrides):
        output = tmp_path / "samples.jsonl"
        files = {
            "polling.yaml": {
                "sources": [
                    {"name": "load", "interval": interval, "meters": ["hardware.cpu.load.*"]}
                ]
            },
            "pipeline.yaml": {
                "sources": [{"name": "all", "meters": ["*"], "sinks": ["file"]}],
                "sinks": [{"name": "file", "publishers": [publisher or f"file://{output}"]}],
            },
        }
        for name, content in files.items():
            (tmp_path / name).write_text(json.dumps(content))
        configuration = tmp_path / "ceilometer.conf"
        configuration.write_text(
            f"[DEFAULT]\npolling_namespaces = central\npipeline_cfg_file = pipeline.yaml\n"
            f"[polling]\ncfg_file = polling.yaml\n"
            f"[hashring]\nttl = 30\nstate_dir = {tmp_path / 'state'}\n"
        )
        settings = options.load([configuration], environment=False, **overrides)
        return Launch(settings, True, {**overrides, "member": settings.member})

    return make


def test_a_launch_can_be_sent_to_another_process(configured):
    launch = configured()

    assert pickle.loads(pickle.dumps(launch)) == launch


def test_what_is_replaced_holds_after_a_reload_too(configured):
    launch = configured().replace(member="w.1")

    settings, _ = launch._load()

    assert launch.settings.member == settings.member == "w.1"


def test_a_reload_reads_the_files_anew_and_keeps_what_the_command_line_said(configured):
    launch = configured(cycles=7)

    configured(interval=5.0)
    settings, plan = launch._load()

    assert [loop.interval for loop in plan.groups[0].loops] == [5.0]
    assert settings.cycles == 7
    assert settings.member == launch.settings.member


def test_a_publisher_that_is_not_installed_is_refused_at_the_start(configured):
    with pytest.raises(UnknownPlugin, match="pigeon"):
        configured(publisher="pigeon://coop").agent()


def test_a_definition_that_is_broken_is_refused_at_the_start(configured, tmp_path):
    launch = configured()
    (tmp_path / "polling.yaml").write_text("sources: [")

    with pytest.raises(BadDefinition, match=r"polling\.yaml"):
        launch.agent()


def test_an_agent_that_is_configured_by_files_polls_spools_and_reloads(configured, tmp_path, until):
    agent = configured().agent()
    thread = threading.Thread(target=agent.run)
    thread.start()

    def intervals():
        path = tmp_path / "samples.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return {json.loads(line)["interval"] for line in lines}

    try:
        until(lambda: intervals() == {0.3}, "samples arrive")
        configured(interval=0.5)
        agent.reload()
        until(lambda: 0.5 in intervals(), "samples of the new interval arrive")
    finally:
        agent.stop()
        thread.join(60)
    assert not thread.is_alive()
    assert (tmp_path / "state" / "spool").is_dir()


def test_an_agent_of_the_command_line_alone_has_nothing_to_reload(caplog):
    settings = agent_settings(backend_url="memory://launch", output="/dev/null", cycles=1)
    agent = Launch(settings).agent()

    agent._reread(None)

    assert "no configuration to read anew" in caplog.text
