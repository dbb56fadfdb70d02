"""The guide's commands, every one of them, in the order in which a reader would run them."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.servers.process import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "agents" / "guide.md"

# Ends whatever the reader's shell has started, should a command fail half-way.
PREAMBLE = "set -euo pipefail\ntrap 'kill -9 $(jobs -p) 2> trap.log' EXIT\n"


def tens():
    """The first digits of four free ports that differ in their last one alone."""
    taken = set()
    while True:
        taken.add(free_port())
        for first in {port // 10 for port in taken}:
            if {10 * first + digit for digit in (1, 2, 3, 4)} <= taken:
                return str(first)


def with_free_ports(page):
    for port in ("8390", "6390"):
        page = page.replace(port, str(free_port()))
    return re.sub(r"\b939(?=[1234$])", tens(), page)


def with_patience(page):
    """Double all times: a busy machine misses windows and leases that are made for a reader."""
    for theirs, ours in (("interval: 2", "interval: 4"), ("ttl = 4", "ttl = 10"),
                         ("sleep 10", "sleep 20")):  # fmt: skip
        assert page.count(theirs) == 1
        page = page.replace(theirs, ours)
    return page


@pytest.mark.long  # its installations take 45 s of processor time
@pytest.mark.timeout(1200, func_only=True)  # without the time in which the wheel is built
def test_every_command_of_the_guide_works(tmp_path, wheel):
    page = with_patience(with_free_ports(GUIDE.read_text()))
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 10
    # What the first one installs would also start on the default ports: not on this machine.
    packages = blocks[0].split("--yes")[1].split()
    subprocess.run([ROOT / "tests" / "servers" / "install.sh", *packages], check=True, timeout=280)
    script = tmp_path / "script.sh"
    script.write_text(PREAMBLE + "\n".join(blocks[1:]))

    with (tmp_path / "said").open("w") as said:
        shell = subprocess.Popen(
            ["bash", script],
            cwd=tmp_path,
            # pip makes a wheel of a clone, an sdist and a wheel alike: the last takes no time. Of
            # what it installs, little is imported.
            env=os.environ | {"CLONE": str(wheel), "PIP_COMPILE": "false"},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(1000)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
    told = (tmp_path / "said").read_text()

    for log in sorted(tmp_path.glob("*.log")):
        told += f"\n{log.name}:\n{log.read_text()[-2000:]}" if code else ""
    assert code == 0, told
    assert "every 4 s" in told  # the check
    assert told.count("30 sensors") == 3, told
    counts = [int(count) for count in re.findall(r"^ +(\d+) /\d+\.json$", told, re.MULTILINE)]
    assert len(counts) == 30, told
    assert sum(counts) == 150
    # A window's order is that of the sensors' hashes: it may be cut anywhere, but only once.
    assert set(counts) <= {4, 5, 6}, told
