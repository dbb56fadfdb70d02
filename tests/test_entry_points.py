"""Plug-ins are found however late they are installed, and looked for no more often than needed."""

from __future__ import annotations

import os
import time
from importlib import metadata

import pytest

from hashring import plugins


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a driver of this name, in a folder that is the whole path and is a minute old."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setattr(plugins, "_known", None)

    def installed(name):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{plugins.DRIVERS}]\n{name} = {name}:Driver\n")

    installed("early")
    changed_at(tmp_path, time.time() - 60)
    return installed


def changed_at(folder, moment):
    os.utime(folder, (moment, moment))


@pytest.fixture
def readings(monkeypatch):
    """How all that is installed was read, each time."""
    real, made = metadata.entry_points, []

    def entry_points(**which):
        made.append(which)
        return real(**which)

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return made


def test_what_is_installed_is_read_once_for_all_groups_where_nothing_changes(install, readings):
    for _ in range(5):
        assert plugins.names(plugins.DRIVERS) == ["early"]
        assert plugins.names(plugins.PUBLISHERS) == []

    assert readings == [{}]


def test_what_is_installed_while_a_program_runs_is_found(install):
    assert plugins.names(plugins.DRIVERS) == ["early"]

    install("late")

    assert plugins.names(plugins.DRIVERS) == ["early", "late"]


def test_another_folder_on_the_path_is_looked_into(install, tmp_path, monkeypatch):
    assert plugins.names(plugins.DRIVERS) == ["early"]

    monkeypatch.setattr("sys.path", [str(tmp_path / "nothing"), str(tmp_path / "nowhere")])

    assert plugins.names(plugins.DRIVERS) == []


def test_a_distribution_that_is_half_installed_is_found_once_it_is_whole(install, tmp_path):
    # For a minute and more the folder counts as changed just now.
    moment = time.time() + 60
    install("late")
    points = tmp_path / "late-1.0.dist-info" / "entry_points.txt"
    text = points.read_text()
    points.unlink()
    changed_at(tmp_path, moment)
    assert plugins.names(plugins.DRIVERS) == ["early"]

    points.write_text(text)
    changed_at(tmp_path, moment)

    assert plugins.names(plugins.DRIVERS) == ["early", "late"]
