"""``sqlite:///path`` in containers: a file mounted by itself is refused, a folder is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hashring.driver import Driver
from hashring.drivers.sqlite import place
from tests.drivers.opening import opening
from tests.drivers.sqlite.conftest import RECORD

TTL = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    return folder / "group.db"


@pytest.fixture
def connect(path: Path) -> Iterator[Callable[[], Driver]]:
    with opening(TTL) as opened:
        yield lambda: opened(f"sqlite://{path}")


IN_A_CONTAINER = """
import subprocess, sys, urllib.parse
from hashring.driver import load
from hashring.errors import StoreUnusable

source, target, ttl, record = sys.argv[1:]
subprocess.run(["mount", "--bind", source, target], check=True)
name = target if target.endswith(".db") else target + "/group.db"
driver = load("sqlite://" + urllib.parse.quote(name), ttl=float(ttl))
try:
    driver.open()
except StoreUnusable as error:
    print(error)
else:
    driver.join("g", "b", record.encode())
    driver.close()
    print("joined")
"""

NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])
"""Mounts of one's own: as root, and as anybody where the kernel lets users have namespaces."""


def in_a_container(source: Path, target: Path) -> str | None:
    """Open a store below what is mounted, in mounts of its own; ``None`` where none are allowed."""
    for namespace in NAMESPACES:
        probe = [*namespace, "mount", "--bind", str(source), str(target)]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            break
    else:
        return None
    command = [sys.executable, "-c", IN_A_CONTAINER, source, target, str(TTL), RECORD.decode()]
    done = subprocess.run([*namespace, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_file_that_is_mounted_by_itself_is_refused_and_a_mounted_folder_is_not(
    path: Path, connect: Callable[[], Driver]
) -> None:
    here = connect()
    here.join("g", "a", RECORD)
    container = path.parent.parent / "a container"
    container.mkdir()
    inside = container / "group.db"
    inside.touch()
    said = in_a_container(path, inside)
    # Where not even a user's own namespace may mount, the kernel's account below is all there is.
    assert said is None or "mount the folder" in said
    inside.unlink()
    said = in_a_container(path.parent, container)
    if said is not None:
        assert said == "joined"
        assert here.read("g").records.keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("point", "refused"),
    [
        ("{folder}/group.db", True),
        ("{folder}", False),
        ("{folder}/group.db-wal", False),
        ("/elsewhere/group.db", False),
    ],
)
def test_what_the_kernel_says_of_mounts_decides_whether_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, refused: bool
) -> None:
    # As the kernel writes it: a space, a tab and a backslash in a name are octal.
    folder = tmp_path / "a\tfolder \\ of agents"
    folder.mkdir()
    octal = str(folder).replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011")
    account = tmp_path / "mountinfo"
    account.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"99 22 8:1 /data/group.db {point.format(folder=octal)} rw - ext4 /dev/sda1 rw\n"
    )
    monkeypatch.setattr(place, "MOUNTS", account)
    file = folder / "group.db"
    if refused:
        with pytest.raises(place.Unusable, match="mounted by itself"):
            place.refuse_a_mounted_file(file)
    else:
        place.refuse_a_mounted_file(file)
