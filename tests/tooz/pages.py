"""What the pages on OpenStack services say: settings that the tests use, commands that they run."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.conftest import TREE

FOLDER = TREE / "docs" / "openstack"
URL = "redis://127.0.0.1:6379"
NOTHING_OWNED = "problem: no member owns anything: nobody works"


def blocks(page: str, language: str) -> list[str]:
    """Return a page's blocks of code."""
    text = (FOLDER / f"{page}.md").read_text()
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


def settings(page: str) -> dict[tuple[str, str], str]:
    """Return what a page has operators write into files, by section and option."""
    found = {}
    for block in blocks(page, "ini"):
        parser = configparser.ConfigParser(interpolation=None, default_section="none")
        parser.read_string(block)
        for section in parser.sections():
            found |= {(section, option): value for option, value in parser.items(section)}
    return found


def commands(page: str) -> list[str]:
    """Return a page's commands."""
    text = "".join(blocks(page, "console"))
    return [line.strip().removeprefix("$ ") for line in text.splitlines() if line.strip()]


def check_settings(page: str, configuration: Path) -> None:
    """A service that the tests run is configured as its page says, but for address and times."""
    parser = configparser.ConfigParser(interpolation=None, default_section="none")
    parser.read(configuration)
    for (section, option), value in settings(page).items():
        if section == "Service":
            continue
        assert value.partition("://")[0] == "hashring+redis"
        assert parser[section][option].startswith("hashring+redis://"), (page, section, option)


def run_commands(page: str, url: str, *, shares: bool = True) -> list[str]:
    """Run the commands with which a page looks at its groups; return what they printed.

    Args:
        page: its name.
        url: the store's, where a service of the page runs.
        shares: its members own slots.
    """
    printed = []
    for command in commands(page):
        program, *words = shlex.split(command.replace(URL, url))
        if program != "hashring":
            continue
        words = [sys.executable, "-m", "hashring", *words]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        told = done.stdout + done.stderr
        described = words[4] == "describe" and not shares
        assert (done.returncode == 0) != described, (command, told)
        assert (NOTHING_OWNED in told) == described, (command, told)
        printed.append(done.stdout)
    assert printed
    return printed
