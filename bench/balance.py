"""How even, and how calm: the study behind the ring's defaults, beside its peers.

Run ``python bench/balance.py`` (about ten minutes; ``--short`` takes one and skips the largest
sizes); it prints its tables and writes them to ``docs/balance.md``. It needs numpy, tooz,
uhashring and jump-consistent-hash.

Each system places the same keys. Rings are built by the systems' own code and then looked up with
NumPy, because a million single calls for each cell would take days; before that, each lookup is
checked against the system's own on a sample.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jump
import mmh3
import numpy as np
import tooz.hashring
import uhashring

from hashring.ring.ring import HashRing

DOCS = Path(__file__).resolve().parent.parent / "docs" / "balance.md"
BEGIN, END = "<!-- begin: written by bench/balance.py -->", "<!-- end -->"

MEMBERS = [3, 10, 30, 100, 300, 1000, 3000, 10_000]
MEMBERS_SKEWED = [3, 10, 100, 1000, 10_000]
KEYS = [10_000, 100_000, 1_000_000, 10_000_000]
USUAL_KEYS = 1_000_000
MOST_SCORES = 110_000_000  # what rendezvous hashing may compute for one cell
MOST_WEIGHT = 12_000  # what uhashring, at 160 points a unit, builds in a minute
SKEW = (1, 2, 4, 8)
CELL = (
    "Each cell: slots of the most loaded member over the mean / slots that a join moves, over "
    "those that the newcomer gets."
)

Weights = Mapping[str, int]
Owners = np.ndarray  # for each key, the index of its owner in a list of ids


class Keys:
    """Names of resources with the hashes that the systems take of them."""

    def __init__(self, count: int) -> None:
        self.names = [f"resource-{i:08}" for i in range(count)]
        digests = b"".join(hashlib.md5(name.encode()).digest() for name in self.names)
        self.murmur = np.fromiter(
            (mmh3.hash64(name, signed=False)[0] for name in self.names), np.uint64, count
        )
        self.md5 = np.frombuffer(digests, ">u8")[::2].astype(np.uint64)

    def head(self, count: int) -> Keys:
        """The first keys alone."""
        part = object.__new__(Keys)
        part.names = self.names[:count]
        part.murmur, part.md5 = self.murmur[:count], self.md5[:count]
        return part


def _agree(owners: Owners, ids: list[str], keys: Keys, ask: Callable[[str], str]) -> None:
    sample = range(0, len(keys.names), max(1, len(keys.names) // 50))
    assert all(ids[owners[i]] == ask(keys.names[i]) for i in sample)


def _successors(points: np.ndarray, numbers: np.ndarray, hashes: np.ndarray) -> Owners:
    at = np.searchsorted(points, hashes, side="right")
    return numbers[np.where(at == len(points), 0, at)]


def ours(load_bound: float = 1.1, **parameters: int) -> Callable[[Weights, Keys], Owners]:
    """Our ring, by default with its defaults."""

    def place(weights: Weights, keys: Keys) -> Owners:
        ring = HashRing(weights, load_bound=load_bound, **parameters)
        shift = np.uint64(64 - ring.universe.bit_length() + 1)
        owners = np.asarray(ring.table)[keys.murmur >> shift]
        _agree(owners, list(ring.ids), keys, ring.owner)
        return owners

    return place


def with_tooz(weights: Weights, keys: Keys) -> Owners:
    ring = tooz.hashring.HashRing([])
    for weight in sorted(set(weights.values())):
        ring.add_nodes([name for name in weights if weights[name] == weight], weight)
    ids = sorted(weights)
    number = {name: i for i, name in enumerate(ids)}
    points = np.array([point >> 64 for point in ring._partitions], np.uint64)
    numbers = np.array([number[ring._ring[point]] for point in ring._partitions])
    owners = _successors(points, numbers, keys.md5)
    _agree(owners, ids, keys, lambda name: next(iter(ring.get_nodes(name.encode()))))
    return owners


def with_uhashring(weights: Weights, keys: Keys) -> Owners | None:
    if sum(weights.values()) > MOST_WEIGHT:
        return None
    ring = uhashring.HashRing({name: {"weight": weight} for name, weight in weights.items()})
    ids = sorted(weights)
    number = {name: i for i, name in enumerate(ids)}
    points = np.array([point >> 64 for point in ring.runtime._keys], np.uint64)
    numbers = np.array([number[ring.runtime._ring[point]] for point in ring.runtime._keys])
    owners = _successors(points, numbers, keys.md5)
    _agree(owners, ids, keys, ring.get_node)
    return owners


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def with_rendezvous(weights: Weights, keys: Keys) -> Owners | None:
    """Highest random weight (Thaler and Ravishankar 1996; weights as Schindelhauer 2005)."""
    if len(weights) * len(keys.names) > MOST_SCORES:
        return None
    ids = sorted(weights)
    best = np.full(len(keys.names), -np.inf)
    owners = np.zeros(len(keys.names), np.int64)
    for i, name in enumerate(ids):
        salt = np.uint64(mmh3.hash64(name, signed=False)[1])
        uniform = (_mixed(keys.murmur ^ salt) >> np.uint64(11)) * 2.0**-53
        score = -weights[name] / np.log(uniform + 2.0**-54)
        owners[score > best] = i
        best = np.maximum(best, score)
    return owners


def with_jump(weights: Weights, keys: Keys) -> Owners | None:
    """Jump consistent hashing (Lamping and Veach 2014) over the sorted ids; it has no weights."""
    if set(weights.values()) != {1}:
        return None
    n = len(weights)
    return np.fromiter((jump.hash(key, n) for key in keys.murmur.tolist()), np.int64)


SYSTEMS: dict[str, Callable[[Weights, Keys], Owners | None]] = {
    "ours": ours(),
    "plain ring": ours(math.inf),
    "tooz": with_tooz,
    "uhashring": with_uhashring,
    "rendezvous": with_rendezvous,
    "jump": with_jump,
}


def fleet(count: int, skewed: bool, trial: int) -> dict[str, int]:
    """Members with their weights: ids as real ones are, another set in each trial."""
    return {f"agent-{trial}-{i:05}": SKEW[i % len(SKEW)] if skewed else 1 for i in range(count)}


def heaviest(owners: Owners, weights: Weights) -> float:
    """The largest ratio of the keys that a member owns to its fair share of them."""
    ids = sorted(weights)
    owned = np.bincount(owners, minlength=len(ids))
    shares = np.array([weights[name] for name in ids]) * len(owners) / sum(weights.values())
    return float((owned / shares).max())


def movement(few: Weights, few_owners: Owners, many: Weights, many_owners: Owners) -> float:
    """Keys that move over keys that must, between fleets that differ by one member.

    What must move is what the member that joins comes to own, or what the one that leaves owned.
    """
    (extra,) = set(many) - set(few)
    number = {name: i for i, name in enumerate(sorted(many))}
    moved = np.array([number[name] for name in sorted(few)])[few_owners] != many_owners
    return float(moved.sum() / (many_owners == number[extra]).sum())


def measure(
    place: Callable[[Weights, Keys], Owners | None],
    count: int,
    skewed: bool,
    keys: Keys,
    moves: bool = True,
) -> tuple[float, float, float] | None:
    """Return (heaviest, movement on a join, on a leave) as means over trials, or None."""
    results = []
    for trial in range(3 if count <= 100 and len(keys.names) <= USUAL_KEYS else 1):
        weights = fleet(count, skewed, trial)
        owners = place(weights, keys)
        if owners is None:
            return None
        join = leave = math.nan
        if moves:
            joined = {**weights, f"agent-{trial}-new": 1}
            left = {name: w for name, w in weights.items() if name != sorted(weights)[count // 2]}
            join = movement(weights, owners, joined, place(joined, keys))
            leave = movement(left, place(left, keys), weights, owners)
        results.append((heaviest(owners, weights), join, leave))
    heavy, join, leave = np.mean(results, axis=0)
    return float(heavy), float(join), float(leave)


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def shown(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def by_members(keys: Keys, skewed: bool, counts: list[int]) -> Iterator[str]:
    found = {}
    for count in counts:
        for name, place in SYSTEMS.items():
            found[count, name] = measure(place, count, skewed, keys)
            print(f"  {count} members, {name}: {found[count, name]}", file=sys.stderr)
    kind = f"weights {', '.join(map(str, SKEW))} in turn" if skewed else "equal weights"
    titles = [
        "Keys of the most loaded member over its share",
        "Keys moved by a join, over those that the newcomer gets",
        "Keys moved by a leave, over those that the leaver had",
    ]
    for index, title in enumerate(titles):
        yield f"## {title}, {kind}, {len(keys.names):,} keys"
        yield ""
        rows = [
            [
                f"{count:,}",
                *(
                    shown(None if found[count, name] is None else found[count, name][index])
                    for name in SYSTEMS
                ),
            ]
            for count in counts
        ]
        yield from table(["members", *SYSTEMS], rows)


def by_keys(keys: Keys, counts: list[int]) -> Iterator[str]:
    for members in (10, 100):
        yield f"## Keys of the most loaded of {members} members over its share, equal weights"
        yield ""
        rows = []
        for count in counts:
            head = keys.head(count)
            cells = [
                measure(place, members, False, head, moves=False) for place in SYSTEMS.values()
            ]
            rows.append([f"{count:,}", *(shown(None if c is None else c[0]) for c in cells)])
            print(f"  {count} keys, {members} members: {rows[-1]}", file=sys.stderr)
        yield from table(["keys", *SYSTEMS], rows)


def of_slots(count: int, trials: int, **parameters: float) -> tuple[float, float]:
    """(Slots of the most loaded member over the mean, slots moved by a join over the least)."""
    results = []
    for trial in range(trials):
        few = HashRing(fleet(count, False, trial), **parameters)
        many = few.with_member(f"agent-{trial}-new")
        before, after = np.asarray(few.table), np.asarray(many.table)
        names_before, names_after = np.array(few.ids), np.array(many.ids)
        moved = (names_before[before] != names_after[after]).sum()
        gained = (names_after[after] == f"agent-{trial}-new").sum()
        results.append((np.bincount(before).max() * count / few.universe, moved / gained))
    heavy, moves = np.mean(results, axis=0)
    return float(heavy), float(moves)


def choice() -> Iterator[str]:
    bounds = [1.04, 1.06, 1.08, 1.1, 1.15, math.inf]
    for count, trials in ((16, 8), (100, 4)):
        yield f"## Choice of vnodes and bound: {count} members, 65,536 slots"
        yield ""
        yield CELL
        yield ""
        rows = []
        for vnodes in (64, 128, 256, 512, 1024):
            cells = [of_slots(count, trials, vnodes=vnodes, load_bound=bound) for bound in bounds]
            rows.append([str(vnodes), *(f"{heavy:.3f} / {moves:.3f}" for heavy, moves in cells)])
            print(f"  {count} members, {rows[-1]}", file=sys.stderr)
        heads = ["no bound" if bound == math.inf else f"bound {bound}" for bound in bounds]
        yield from table(["vnodes", *heads], rows)


def slots(counts: list[int]) -> Iterator[str]:
    yield "## Choice of slots, with the default vnodes and bound"
    yield ""
    yield CELL
    yield ""
    sizes = [1 << 14, 1 << 16, 1 << 18, 1 << 20]
    rows = []
    for count in counts:
        cells = [of_slots(count, 3 if count <= 1000 else 1, slots=size) for size in sizes]
        rows.append([f"{count:,}", *(f"{heavy:.3f} / {moves:.3f}" for heavy, moves in cells)])
        print(f"  slots: {rows[-1]}", file=sys.stderr)
    yield from table(["members", *(f"{size:,} slots" for size in sizes)], rows)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="leave the largest sizes out")
    parser.add_argument("--output", type=Path, default=DOCS, help="the page to write into")
    options = parser.parse_args()
    members = [n for n in MEMBERS if n <= 300] if options.short else MEMBERS
    counts = [n for n in KEYS if n <= 1_000_000] if options.short else KEYS
    began = time.monotonic()
    keys = Keys(max(counts))
    usual = keys.head(USUAL_KEYS)
    lines = [
        *choice(),
        *slots([10, 100, 1000, *([] if options.short else [10_000])]),
        *by_members(usual, False, members),
        *by_members(usual, True, [n for n in MEMBERS_SKEWED if n in members]),
        *by_keys(keys, counts),
    ]
    spent = (time.monotonic() - began) / 60
    command = "python bench/balance.py" + (" --short" if options.short else "")
    origin = (
        f"Measured on {datetime.date.today().isoformat()} by `{command}` in {spent:.0f} minutes on "
        f"{processor()}, Python {platform.python_version()}, tooz "
        f"{_version('tooz')}, uhashring {_version('uhashring')}, jump-consistent-hash "
        f"{_version('jump-consistent-hash')}."
    )
    written = "\n".join([BEGIN, origin, "", *lines, END])
    page = options.output.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    options.output.write_text(before + written + after, encoding="utf-8")
    print(written)


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


if __name__ == "__main__":
    main()
