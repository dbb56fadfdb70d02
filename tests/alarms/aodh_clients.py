"""Run with Aodh's and OpenStack's clients installed: commands, and what they print. Prints JSON.

    python aodh_clients.py COMMANDS.json URL

The commands are run one after the other. In a command, ``{NAME}`` is the
id of the alarm that was made with this name. An answer is the exit code and both outputs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

USERS = {
    "u1": {"USER_ID": "u1", "PROJECT_ID": "p1", "ROLES": "member,reader"},
    "u2": {"USER_ID": "u2", "PROJECT_ID": "p2", "ROLES": "member,reader"},
    "admin": {"USER_ID": "root", "PROJECT_ID": "ops", "ROLES": "admin"},
}


def run(who: str, url: str, words: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    options = USERS[who]
    for name, value in options.items():
        os.environ[f"AODH_{name}"] = value
    os.environ |= {"AODH_AODH_ENDPOINT": url, "OS_AUTH_TYPE": "aodh-noauth"}
    sys.argv = ["client", *words]  # where they look for the kind of authentication
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if words[0] == "openstack":
                from openstackclient import shell as openstack

                given = [
                    *("--os-auth-type", "aodh-noauth", "--os-aodh-endpoint", url),
                    *("--os-user-id", options["USER_ID"], "--os-project-id", options["PROJECT_ID"]),
                    *("--os-roles", options["ROLES"]),
                ]
                sys.argv = ["openstack", *given, *words[1:]]
                code = openstack.main([*given, *words[1:]])
            else:
                from aodhclient import shell

                code = shell.main(words)
        except SystemExit as error:
            code = error.code
    return int(code or 0), out.getvalue(), err.getvalue()


def filled(word: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda one: ids.get(one[1], one[0]), word)


def main() -> None:
    warnings.simplefilter("ignore")
    commands, url = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    ids: dict[str, str] = {}
    answers: list[Any] = []
    for who, *words in commands:
        code, out, err = run(who, url, [filled(word, ids) for word in words])
        if code == 0 and "create" in words and "json" in words:
            alarm = json.loads(out)
            ids[alarm["name"]] = alarm["alarm_id"]
        answers.append([code, out, err])
    sys.__stdout__.write(f"{json.dumps(answers)}\n")


if __name__ == "__main__":
    main()
