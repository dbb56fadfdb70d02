"""How soon the page of a large group is to be seen, in headless Chromium, by its own clock.

    python -m bench.first_paint --members 200 --rounds 9

The Performance API's first-contentful-paint counts from the moment in which the browser was told to
go to the page: the request, the answer, the script that draws it, and the painting are all in it.
The first round has what a browser does once, such as starting its processes, and is shown apart.
"""

from __future__ import annotations

import argparse
import os
import statistics

from tests.page.browser import chromium, first_paint, show
from tests.page.scenes import large_group, served

_DRAWN = "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"


def rounds(members, count, size):
    """Return for each round the milliseconds until the first paint, and until all was drawn."""
    found = []
    with chromium() as driver, served(large_group(members)) as address:
        show(driver, size)
        for _ in range(count):
            driver.get("about:blank")
            driver.get(address)
            rows = driver.execute_script("return document.querySelectorAll('#members tr').length")
            assert rows == members, f"{rows} rows of {members}"
            found.append((first_paint(driver), driver.execute_script(_DRAWN)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()

    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"| {asked.members} members | first round | median of the others | slowest of them |")
    print("|---|---:|---:|---:|")
    for size in ("desk", "telephone"):
        first, *others = rounds(asked.members, asked.rounds, size)
        for place, name in enumerate(("first contentful paint", "all drawn")):
            times = [one[place] for one in others]
            print(
                f"| {name}, {size} | {first[place]:.0f} ms | {statistics.median(times):.0f} ms "
                f"| {max(times):.0f} ms |"
            )


if __name__ == "__main__":
    main()
