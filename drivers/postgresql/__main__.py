"""Print the migration that makes the table: ``python -m hashring.drivers.postgresql | psql``."""

from __future__ import annotations

import argparse
import sys

from .tables import identifier, migration


def main() -> int:
    """Print it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m hashring.drivers.postgresql", description=__doc__
    )
    parser.add_argument("--table", type=identifier, default="hashring", help="the table's name")
    parser.add_argument("--schema", type=identifier, help="its schema; default: by search_path")
    parser.add_argument("--members", type=identifier, help="the role that the members log in as")
    parser.add_argument("--watchers", type=identifier, help="a role that may only look")
    given = parser.parse_args()
    text = migration(given.table, given.schema, members=given.members, watchers=given.watchers)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
