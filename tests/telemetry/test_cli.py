"""The command: what it prints, and how it says what is wrong: one line, and an exit code."""

import json
import os
import signal
import socket
import subprocess
import sys

import click
import pytest

from hashring.cli import front
from tests.begun import Begun
from tests.telemetry.forked import Commands

pytestmark = pytest.mark.slow


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "hashring", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        **variables,
    )


@pytest.fixture(scope="module")
def told():
    """Runs the command where only what it says is looked at."""
    with Commands() as commands:
        yield commands


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--backend-url", "nonsense"], 2, "nonsense"),
        (["--backend-url", "pigeon://coop"], 2, "pigeon"),
        (["--backend-url", "sqlite:///tmp/x?color=red"], 2, "color"),
        (["--backend-url", "sqlite:////proc/no/such/folder/x.db"], 1, "/proc/no/such/folder"),
        (["--interval", "0"], 2, "--interval"),
        (["--ttl", "nan"], 2, "--ttl"),
        (["--cycles", "-1"], 2, "--cycles"),
        (["--output", "/nowhere/samples"], 1, "/nowhere/samples"),
        (["--output", "pigeon://coop"], 2, "pigeon"),
        (["--workers", "2"], 2, "memory://"),
        (
            ["--backend-url", "sqlite:///x", "--workers", "2", "--status-file", "x"],
            2,
            "--status-file",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(told, options, code, complaint):
    done = told("agent", "--backend-url", "memory://", *options)

    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("hashring: ")
    assert complaint in line


def test_without_any_option_the_store_is_in_the_users_state_folder(tmp_path):
    variables = {"env": os.environ | {"XDG_STATE_HOME": str(tmp_path)}}

    # An interval that leaves time to find what there is, on a busy machine too.
    done = run("agent", "--cycles", "1", "--interval", "3", **variables)

    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout.splitlines()[0])
    assert first["resource_id"].startswith(f"{socket.gethostname()}:")
    assert (tmp_path / "hashring" / "agents.db").is_file()


def test_a_secret_in_a_url_is_never_shown(told):
    done = told("agent", "--backend-url", "pigeon://me:hunter2@coop/?password=hunter2")

    assert done.returncode == 2
    assert "hunter2" not in done.stderr


def test_a_group_with_another_ttl_is_refused(told, agents):
    agents.start("a", "--interval", "1", "--ttl", "30")
    agents.settle("a")

    done = told("agent", "--backend-url", agents.url, "--group", "test", "--ttl", "40")

    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("hashring: ")
    assert "ttl" in line


def test_an_unknown_option_is_a_usage_error(told):
    done = told("agent", "--color", "red")

    assert done.returncode == 2
    assert "--color" in done.stderr


def test_an_empty_or_unreadable_list_of_resources_is_refused(told, tmp_path):
    empty = tmp_path / "resources"
    empty.write_text("# none\n")

    done = told("agent", "--backend-url", "memory://", "--resources", str(empty))

    assert done.returncode == 2
    assert "lists no resource" in done.stderr
    assert told("agent", "--resources", str(tmp_path / "absent")).returncode == 2


def test_the_installed_drivers_are_listed_with_what_they_promise():
    done = run("drivers")

    assert done.returncode == 0
    assert "sqlite://  from hashring-ha" in done.stdout
    assert "(hashring.drivers.sqlite:SQLiteDriver)" in done.stdout
    assert "never forgets" in done.stdout
    assert "?ttl=" in done.stdout


@pytest.fixture
def configuration(tmp_path):
    """Write what an agent is configured by: a polling definition and a file for its samples."""

    def write(interval=0.5, meters=("hardware.cpu.load.*",)):
        sources = [{"name": "load", "interval": interval, "meters": list(meters)}]
        (tmp_path / "polling.yaml").write_text(json.dumps({"sources": sources}))
        path = tmp_path / "ceilometer.conf"
        path.write_text(
            "[polling]\ncfg_file = polling.yaml\n[hashring]\nttl = 30\n"
            f"state_dir = {tmp_path / 'state'}\noutput = file://{tmp_path / 'samples.jsonl'}\n"
        )
        return str(path)

    return write


def samples(folder):
    path = folder / "samples.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "form", [["central"], ["poll", "--polling-namespaces", "central"]], ids=["central", "poll"]
)
def test_an_agent_that_files_configure_polls_what_they_say(configuration, tmp_path, form):
    done = run("agent", *form, "--config-file", configuration(interval=2.0), "--cycles", "2")

    assert done.returncode == 0, done.stderr
    assert {one["meter"] for one in samples(tmp_path)} == {
        f"hardware.cpu.load.{minutes}min" for minutes in (1, 5, 15)
    }
    assert {one["interval"] for one in samples(tmp_path)} == {2.0}
    assert {one["source"] for one in samples(tmp_path)} == {"load"}
    [line] = done.stderr.splitlines()
    assert "no [coordination] backend_url" in line
    assert "agents of other hosts are not seen" in line


def test_a_namespace_that_nobody_has_is_refused(told, configuration):
    done = told("agent", "poll", "--config-file", configuration(), "--polling-namespaces", "ipmx")

    assert done.returncode == 2
    assert "not 'ipmx'" in done.stderr


def test_what_nothing_here_can_tell_is_an_error_that_says_so(told, configuration):
    done = told("agent", "central", "--config-file", configuration(meters=["no.such.meter"]))

    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("hashring: ")]
    assert "nothing to poll" in line
    assert "'load'" in line


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_lets_every_worker_read_its_configuration_anew(
    configuration, tmp_path, until, workers
):
    command = ["agent", "central", "--member", "w"]
    command += ["--config-file", configuration(), "--workers", str(workers)]
    with (tmp_path / "log").open("wb") as log:
        process = Begun(command, stderr=log, start_new_session=True)
    try:
        # One host is one resource: one of the workers polls it, at either interval.
        until(lambda: samples(tmp_path), "it polls")
        configuration(interval=0.7)
        process.send_signal(signal.SIGHUP)
        until(lambda: {one["interval"] for one in samples(tmp_path)} == {0.5, 0.7}, "it reloads")
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found = samples(tmp_path)
    assert len({one["id"] for one in found}) == len(found)  # nothing twice, the reload included


def test_help_is_there_for_each_command(told):
    forms = [["agent", form] for form in ("central", "compute", "poll", "check")]
    for command in ([], ["agent"], *forms, ["show"], ["drivers"]):
        done = told(*command, "--help")
        assert done.returncode == 0
        assert "Usage: hashring" in done.stdout


def test_a_reader_that_leaves_early_is_met_with_silence():
    process = subprocess.Popen(
        [sys.executable, "-m", "hashring", "drivers"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()

    assert process.wait(60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


MODULES = {"oslo.config": "oslo_config", "PyYAML": "yaml"}  # where they are called otherwise

BESIDE_CLICK = (
    "aiohappyeyeballs",
    "httptools",
    "msgpack",
    "oslo_config",
    "platformdirs",
    "prometheus_client",
    "psutil",
    "rich",
    "urllib3",
    "yaml",
)


def run_without(modules, *arguments):
    """Run the command where these modules are not installed."""
    script = f"""
import sys
sys.modules.update(dict.fromkeys({list(modules)!r}))  # None is "not there" to the import system
from hashring.cli import main
sys.exit(main({list(arguments)!r}))
"""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=90
    )


@pytest.mark.parametrize(
    "command",
    [["--help"], ["--version"], ["drivers"], ["agent", "poll", "--help"], ["show", "--help"]],
    ids=" ".join,
)
def test_what_needs_the_core_alone_works_with_click_and_nothing_else_installed(command):
    done = run_without(BESIDE_CLICK, *command)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:5] == run(*command).stdout.splitlines()[:5]


@pytest.mark.parametrize(
    "command", [["agent"], ["agent", "check"], ["agent", "spool", "list"], ["show"]], ids=" ".join
)
def test_what_needs_more_says_so_in_a_line(command):
    done = run_without(BESIDE_CLICK, *command)

    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("hashring: this command needs the package ")
    assert "pip install 'hashring-ha[telemetry]'" in line


def test_what_the_front_says_of_a_command_is_what_that_says_of_itself():
    context = click.Context(front.hashring)
    for name, listed in front.COMMANDS.items():
        command = front.hashring.get_command(context, name)
        assert command.name == name
        assert command.get_short_help_str(limit=1000) == listed.help


def test_a_command_that_there_is_not_is_a_usage_error():
    done = run("serve")

    assert done.returncode == 2
    assert "No such command 'serve'" in done.stderr


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("click", ["drivers"]),
        ("psutil", ["agent"]),
        ("rich", ["show"]),
        ("oslo.config", ["agent"]),
        ("PyYAML", ["agent"]),
        ("platformdirs", ["agent"]),
    ],
)
def test_a_missing_extra_is_named_with_the_pip_command(package, command):
    done = run_without([MODULES.get(package, package)], *command)

    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"the package {package!r}" in line
    assert "pip install 'hashring-ha[telemetry]'" in line
