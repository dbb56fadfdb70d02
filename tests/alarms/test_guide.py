"""The guide's commands, every one of them, in the order in which a reader would run them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TREE
from tests.servers.process import free_port

pytestmark = pytest.mark.slow

# Ends whatever the reader's shell has started, should a command fail half-way.
PREAMBLE = "set -euo pipefail\nset -m\ntrap 'kill -9 $(jobs -p) 2> trap.log' EXIT\n"


def test_every_command_of_the_guide_works(tmp_path):
    page = (TREE / "docs" / "alarms" / "guide.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    port = str(free_port())
    script = "\n".join(blocks).replace("8391", port)
    # The check may come before the server listens; a reader is slower.
    listens = f"(: < /dev/tcp/127.0.0.1/{port}) 2> port.log"
    script = script.replace(
        "> told.txt &\n", f"> told.txt &\nuntil {listens}; do sleep 0.1; done\n"
    )
    (tmp_path / "script.sh").write_text(PREAMBLE + script)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with (tmp_path / "said").open("w") as said:
        shell = subprocess.Popen(
            ["bash", "script.sh"],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(250)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
    told = (tmp_path / "said").read_text()
    assert code == 0, told + (tmp_path / "two.log").read_text()
    assert "1 alarms, each evaluated once every 60 s" in told
    assert page.split("It says, each once:\n\n```\n")[1].split("```")[0] in told
