"""tooz's own tests of coordinators, from the installed wheel, on a URL of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

MODULES = ["tooz.tests.test_coordination", "tooz.tests.test_partitioner"]

SHORT = " or ".join(
    [
        *("test_create_group", "test_join_group", "test_leave_group", "test_get_members"),
        *("test_watch", "test_run_for_election", "test_heartbeat", "test_get_lock_concurrency"),
        *("test_hashring", "test_join_partitioned_group", "test_members_of_object"),
    ]
)
"""What `make test` plays of them: each thing that a coordinator does."""

FAILS = {
    # A second coordinator with the member id of the first is to end its membership. Ours never ends
    # a lease of another incarnation: whoever holds it acts on it.
    "test_watch_join_group_booted_out",
}
"""What docs/tooz.md names, with the reason."""

SKIPPED = {
    "test_connection_error_bad_host",  # where the store is no server
    "test_get_lock_locking_exclusive_and_shared",
    "test_get_lock_locking_shared_and_exclusive",
    "test_get_lock_release_broken",
    "test_get_shared_lock",
    "test_get_shared_lock_locking_same_lock_twice",
    "test_get_shared_lock_locking_two_lock",
    "test_timeout",
    "test_watch_join_group_disappear",
}
"""What raises `NotImplemented`, or is for stores of another kind."""


def play(url: str, folder: Path, *more: str) -> tuple[set[str], set[str], int]:
    """Run them; return the names of those that failed and were skipped, and how many passed."""
    report = folder / "report.xml"
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-c", "pytest.ini"]
    command += ["-p", "no:cacheprovider", "--timeout=120", f"--junitxml={report}"]
    done = subprocess.run(
        [*command, *more, "--pyargs", *MODULES],
        env={**os.environ, "TOOZ_TEST_URL": url},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    failed, skipped, passed = set(), set(), 0
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed.add(case.get("name", ""))
        elif "skipped" in kinds:
            skipped.add(case.get("name", ""))
        else:
            passed += 1
    return failed, skipped, passed
