"""The keys that all contenders are given: the very same list object, made once for a run.

The strings are made one after the other, as a program's discovery makes them, and lie in memory in
that order; `shuffled` is the same list in random order, so that nearly every key is a cache miss.
Nobody has used them before: CPython has cached no hash and no UTF-8 form of them.
"""

import functools
import random
from collections.abc import Callable

_HOSTS = ("compute", "storage", "controller", "netz-knoten")


def _uuid(source: random.Random, _: int) -> str:
    text = f"{source.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _short(source: random.Random, number: int) -> str:
    return f"r{number}"


def _long(source: random.Random, number: int) -> str:
    host = source.choice(_HOSTS)
    return (
        f"region-{number % 7}/zone-{number % 31}/{host}-{number % 4999:05d}.example.org/"
        f"instance-{_uuid(source, number)}/network.incoming.bytes/eth{number % 8}"
    )


def _non_ascii(source: random.Random, number: int) -> str:
    return f"Zähler/日本-{number % 97}/{source.getrandbits(64):016x}"


_KINDS: dict[str, Callable[[random.Random, int], str]] = {
    "uuid": _uuid,
    "short": _short,
    "long": _long,
    "non-ascii": _non_ascii,
}


@functools.lru_cache(maxsize=2)
def make(kind: str, count: int) -> list[str]:
    """Return `count` keys of a kind; the two lists used last are kept."""
    if kind == "shuffled":
        keys = list(make("uuid", count))
        random.Random(7).shuffle(keys)
        return keys
    source = random.Random(20)
    form = _KINDS[kind]
    return [form(source, number) for number in range(count)]
