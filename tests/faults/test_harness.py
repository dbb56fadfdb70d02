"""The harness itself: its plans, and that it hides nothing and leaves nothing behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from hashring.testing import SQLiteStore, Step, fault_plan, random_plan, reference_plan, run_plan
from hashring.testing.faults.faults import Group

pytestmark = pytest.mark.faults


def test_a_seed_fixes_the_plan() -> None:
    assert reference_plan(3) == reference_plan(3)
    assert reference_plan(3) != reference_plan(4)


@pytest.mark.parametrize("short", [False, True])
def test_the_reference_plan_has_four_to_seven_members(short: bool) -> None:
    members: set[str] = set()
    for step in reference_plan(1, short=short):
        if step.act in {"start", "join", "double join"}:
            members |= set(step.members)
        elif step.act in {"leave", "kill"}:
            members -= set(step.members)
        assert 4 <= len(members) <= 7


def test_the_fault_plan_has_each_fault_once() -> None:
    acts = [step.act for step in fault_plan(["one", "two", "three"])]
    assert [act for act in acts if act in {"one", "two", "three"}] == ["one", "two", "three"]


def test_a_random_plan_ends_in_time() -> None:
    began = time.monotonic()
    steps = list(random_plan(1, 0.05, {}))
    assert time.monotonic() - began >= 0.05
    assert steps[0].act == "start"
    assert steps[-1].act == "rest"


def test_a_member_that_ends_by_itself_ends_the_run(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such thing')")
    with (
        SQLiteStore() as store,
        pytest.raises(ChildProcessError, match=r"member a ended.*no such thing"),
    ):
        run_plan([Step("start", ("a",))], store, tmp_path, command=command)


def test_a_member_that_dies_between_two_steps_is_noticed(tmp_path: Path) -> None:
    settled = '{"e":"state","state":"settled"}'
    script = f"import sys; open(sys.argv[sys.argv.index('--log') + 1], 'w').write({settled!r})"
    with Group("sqlite:///unused", tmp_path, command=(sys.executable, "-c", script)) as group:
        group.start("a")
        group.wait_ready("a")
        group._processes["a"].wait(timeout=60)
        with pytest.raises(ChildProcessError, match="member a ended by itself, with status 0"):
            group.check()


def test_an_unknown_step_is_refused_by_the_faults_there_are(tmp_path: Path) -> None:
    with SQLiteStore() as store, pytest.raises(ValueError, match=r"'earthquake'.*store locked"):
        run_plan([Step("earthquake")], store, tmp_path)


def test_a_plan_makes_its_folder_and_takes_none_of_another_run(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    with SQLiteStore() as store:
        history = run_plan([Step("start", ("a",))], store, folder)
        assert [life[0] for life in history.lives] == ["a"]
        with pytest.raises(FileExistsError, match="empty folder"):
            run_plan([Step("start", ("a",))], store, folder)


def test_the_embedded_store_leaves_no_disk_and_no_file_behind(tmp_path: Path) -> None:
    with SQLiteStore() as store:
        folder = store.path.parent
        assert folder.is_dir()
        for fault in store.faults().values():
            assert fault.seconds[0] <= fault.seconds[1]
    assert not folder.exists()
    assert str(folder) not in Path("/proc/mounts").read_text()
