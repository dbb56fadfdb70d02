"""A lock whose Redis is killed and comes back empty: who gets it, and when; tooz's beside ours.

    python -m bench.lock_restart

One coordinator has the lock and keeps beating, another asks for it all the time, for three leases
after the restart.
"""

from __future__ import annotations

import contextlib
import time

import tooz
from tooz import coordination

from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

TTL = 5


def play(scheme: str) -> tuple[str, int, bool]:
    """Return when the other got it, at how many looks both had it, and whether the first does."""
    with RedisServer() as server:
        url = f"{scheme}://{server.address}?timeout={TTL}"
        options = "" if "+" in scheme else f"&lock_timeout={TTL}"
        a = coordination.get_coordinator(url + options, b"a")
        b = coordination.get_coordinator(url + options, b"b")
        a.start(start_heart=True)
        b.start(start_heart=True)
        mine, theirs = a.get_lock(b"volume"), b.get_lock(b"volume")
        wait_until(lambda: mine.acquire(blocking=False), what="the first owner")
        time.sleep(TTL)
        server.kill()
        server.start()
        began, got, both = time.monotonic(), "never", 0
        while time.monotonic() - began < 3 * TTL:
            with contextlib.suppress(tooz.ToozError):  # the server is only just coming back
                if got == "never" and theirs.acquire(blocking=False):
                    got = f"{time.monotonic() - began:.1f} s"
            both += bool(mine.acquired and theirs.acquired)
            time.sleep(0.01)
        found = got, both, bool(mine.acquired)
        for coordinator in (a, b):
            with contextlib.suppress(tooz.ToozError):
                coordinator.stop()
        return found


def main() -> None:
    print(
        "| backend | the other got it after | looks at which both had it | the first still has it |"
    )
    print("|---|---|---|---|")
    for scheme in ("redis", "hashring+redis"):
        print(
            f"| `{scheme}` |", " | ".join(str(figure) for figure in play(scheme)), "|", flush=True
        )


if __name__ == "__main__":
    main()
