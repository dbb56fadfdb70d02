"""Compare `hashring.compat.tooz` with the installed tooz, key by key: the long form of the tests.

    python bench/agree_with_tooz.py --keys 1000000 --members 300 --seed 1

Spreads the keys (random text and bytes, non-ASCII and empty ones among them) over rings of 1 to
`--members` nodes of weight 1 to 4, some of them removed and added again. Compares, for each key,
the one owner that `get_nodes`, `assign` and `owned` name, and for every tenth key `get_nodes` with
random replicas and ignored nodes, and the batch masks for the same. Every variant of the vector
MD5 that the processor has is used in turn. Ends with status 1 at the first difference.
"""

import argparse
import importlib.metadata
import random
import sys
import time

import tooz.hashring

from hashring.compat import _toozring
from hashring.compat import tooz as compat

ALPHABET = "abcXYZ0189-_/. éßñ日本😀"


def random_id(source: random.Random, longest: int) -> bytes:
    """Return random bytes, or the UTF-8 form of random text; one in a hundred is empty."""
    length = 0 if source.random() < 0.01 else source.randrange(1, longest)
    if source.random() < 0.5:
        return source.randbytes(length)
    return "".join(source.choices(ALPHABET, k=length)).encode()


def random_rings(source: random.Random, members: int):
    """Return our ring and tooz's after the same random changes."""
    ours, theirs = compat.HashRing([]), tooz.hashring.HashRing([])
    # Fixed length: ids that repeat one another ("a", "aa") share points, which one test pins.
    names = {f"{source.getrandbits(40):010x}é" for _ in range(members - 1)}
    nodes = [*sorted(names), source.randbytes(17)]
    source.shuffle(nodes)
    # Not one by one: tooz sorts its whole ring at each call.
    for weight in (1, 2, 3, 4):
        for ring in (ours, theirs):
            ring.add_nodes(nodes[weight - 1 :: 4], weight)
    for node in source.sample(nodes, min(3, len(nodes) // 2)):
        back = source.random() < 0.5
        weight = source.randint(1, 4)
        for ring in (ours, theirs):
            ring.remove_node(node)
            if back:
                ring.add_node(node, weight)
    return ours, theirs


class Disagreement(Exception):
    """The two libraries named different nodes."""


def expect(same: bool, what: str, *context: object) -> None:
    if not same:
        raise Disagreement(f"{what}: {context!r}")


def compare(source: random.Random, members: int, count: int) -> tuple[int, int]:
    """Compare one pair of rings; return how many owners and how many replica sets agreed."""
    ours, theirs = random_rings(source, members)
    keys = [random_id(source, 120) for _ in range(count)]
    expected: dict[object, list[bytes]] = {node: [] for node in theirs.nodes}
    for key in keys:
        found = theirs.get_nodes(key)
        expect(ours.get_nodes(key) == found, "get_nodes", members, key, found)
        expected[next(iter(found))].append(key)
    expect(dict(ours.nodes) == theirs.nodes, "nodes", members)
    expect(len(ours) == len(theirs), "length", members)
    expect(ours.assign(keys) == expected, "assign", members)
    nodes = list(theirs.nodes)
    for node in source.sample(nodes, min(3, len(nodes))):
        expect(ours.owned(node, keys) == expected[node], "owned", members, node)
    some = keys[::10]
    replicas = source.randint(1, 5)
    ignored = source.sample(nodes, source.randrange(len(nodes))) if len(nodes) > 1 else []
    ignored = ignored[: source.choice((1, 3, 300))]
    sets = [theirs.get_nodes(key, ignored, replicas) for key in some]
    for key, found in zip(some, sets, strict=True):
        ours_found = ours.get_nodes(key, ignored, replicas)
        expect(ours_found == found, "replicas", members, key, ignored, replicas)
    for node in source.sample(nodes, min(3, len(nodes))):
        mask = bytearray(node in found for found in sets)
        expect(ours.mask(node, some, ignored, replicas) == mask, "mask", members, node, ignored)
    return len(keys), len(some)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.perf_counter()
    source = random.Random(arguments.seed)
    variants = _toozring.variants()
    native = _toozring.PointIndex
    owners = sets = 0
    for members in range(1, arguments.members + 1):
        variant = variants[members % len(variants)]
        _toozring.PointIndex = lambda points, variant=variant: native(points, variant)
        rings_left = arguments.members + 1 - members
        try:
            done = compare(source, members, (arguments.keys - owners) // rings_left)
        except Disagreement as error:
            sys.exit(f"DIFFERENT with {variant}: {error}")
        owners += done[0]
        sets += done[1]
    print(
        f"tooz {importlib.metadata.version('tooz')}: {owners:,} owners and {sets:,} sets of "
        f"replicas agree on rings of 1 to {arguments.members} nodes, seed {arguments.seed}, "
        f"MD5 by {', '.join(variants)}; {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
