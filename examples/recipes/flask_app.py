"""A web service whose processes share out work in the background, under gunicorn.

STORE_URL=redis://127.0.0.1/0 gunicorn --config gunicorn_conf.py --workers 4 flask_app:app
"""

import os
import threading

from flask import Flask

import hashring

app = Flask(__name__)
accounts = [f"account-{number}" for number in range(50)]


class Background(threading.Thread):
    """Sweeps this process's share of the accounts, once a window."""

    def __init__(self) -> None:
        super().__init__(name="background")
        self.partition = hashring.join(os.environ["STORE_URL"], "sweepers", wait=30)

    def run(self) -> None:
        with self.partition as partition:
            for cycle in partition.cycles(interval=1):
                for account in cycle.owned(accounts):
                    print("swept", account, cycle.window, flush=True)

    def stop(self) -> None:
        self.partition.stop()
        self.join()  # it hands over first


background: Background | None = None


@app.get("/share")
def share() -> dict[str, object]:
    """What the process that answers has."""
    if background is None:  # not under gunicorn
        return {"owned": []}
    return {"member": background.partition.member, "owned": background.partition.owned(accounts)}
