"""What people who look on ask of a Redis server: which groups there are, how long leases run.

It reads, with commands of its own beside the script, and writes nothing.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import redis

from .calls import Calls
from .nodes import Deadline, Node
from .routes import Route

__all__ = ["groups", "leases"]

_BATCH = 1000  # keys that the server looks at in one step of a SCAN


def groups(calls: Calls, namespace: str) -> set[str]:
    """Return the groups that have members.

    Args:
        calls: of the driver.
        namespace: what the keys of its groups begin with.
    """
    deadline = calls.deadline()
    pattern = re.compile(re.escape(namespace) + r":\{([^{}]+)\}:leases")

    def look(route: Route) -> set[str]:
        found: set[str] = set()
        for node in route.primaries(deadline):
            for key in _keys(node, f"{namespace}:{{*}}:leases", deadline):
                name = pattern.fullmatch(key)
                # The set has an entry that is no member's.
                if name is not None and _asked(node, ("ZCARD", key), deadline) > 1:
                    found.add(unquote(name[1]))
        return found

    return calls.trying("listing the groups", b"", deadline, look)


def leases(calls: Calls, group: str) -> dict[str, float]:
    """Return for how many seconds each member's lease runs, by the server's time."""
    deadline = calls.deadline()
    state = calls.group(group)

    def look(route: Route) -> dict[str, float]:
        node = route.find(state.key, deadline)
        key = state.key_of("leases")
        answers = node.ask([("TIME",), ("ZRANGE", key, 0, -1, "WITHSCORES")], deadline)
        for answer in answers:
            if isinstance(answer, redis.RedisError):
                raise answer
        (seconds, micros), flat = answers
        now = int(seconds) + int(micros) / 1e6
        return {
            member.decode(): float(end) / 1e6 - now
            for member, end in zip(flat[::2], flat[1::2], strict=True)
            if member
        }

    return calls.trying(f"reading the leases of {group!r}", state.key, deadline, look)


def _keys(node: Node, pattern: str, deadline: Deadline) -> list[str]:
    cursor, found = b"0", []
    while True:
        command = ("SCAN", cursor, "MATCH", _literal(pattern), "COUNT", _BATCH)
        cursor, keys = _asked(node, command, deadline)
        found += [key.decode() for key in keys]
        if cursor == b"0":
            return found


def _literal(pattern: str) -> str:
    # A namespace may have characters that a pattern of SCAN gives a meaning to.
    namespace, brace, rest = pattern.partition(":{*}")
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", namespace) + brace + rest


def _asked(node: Node, command: tuple[Any, ...], deadline: Deadline) -> Any:
    (answer,) = node.ask([command], deadline)
    if isinstance(answer, redis.RedisError):
        raise answer
    return answer
