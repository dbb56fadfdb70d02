"""Coverage-guided fuzzing of the engine's inputs with atheris: the compiled twin must agree.

Run ``tests/fuzz/run.sh``, which builds the engine with clang so that its branches guide the fuzzer
and AddressSanitizer watches its memory. Each input is taken apart into keys, members and
operations; both engines must give the same answer or the same error, and neither may crash.
"""

from __future__ import annotations

import sys

import atheris
import numpy as np
import pyarrow as pa

with atheris.instrument_imports(include=["hashring.ring.reference"]):
    import hashring.ring.reference as reference
import hashring.ring._engine as compiled
from hashring.errors import HashringError

KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
]


def some_key(data):
    kind = data.ConsumeIntInRange(0, 6)
    if kind <= 1:
        return data.ConsumeBytes(data.ConsumeIntInRange(0, 80))
    if kind <= 3:
        return data.ConsumeUnicode(data.ConsumeIntInRange(0, 80))  # surrogates among it
    if kind == 4:
        return data.ConsumeUnicodeNoSurrogates(data.ConsumeIntInRange(0, 600)) * 3
    if kind == 5:
        return "".join(chr(32 + byte % 95) for byte in data.ConsumeBytes(40))
    return [None, 7, bytearray(b"x"), ("x",)][data.ConsumeIntInRange(0, 3)]


def outcome(ask):
    try:
        return ask()
    except HashringError as error:
        return type(error).__name__, str(error)


def both(ask):
    answers = [outcome(lambda engine=engine: ask(engine)) for engine in (compiled, reference)]
    assert answers[0] == answers[1], answers


def check_keys(data):
    keys = [some_key(data) for _ in range(data.ConsumeIntInRange(0, 12))]
    bits = data.ConsumeIntInRange(0, 9)
    chosen = data.ConsumeIntListInRange(data.ConsumeIntInRange(0, 20), -1, 1 << bits)

    def ask(engine):
        some = engine.SlotSet.of(chosen, 1 << bits)
        hashed = engine.Keys(key for key in keys if isinstance(key, (str, bytes)))
        hashed.add(list(hashed)[::2])
        removed = hashed.remove(list(hashed)[:1])
        return (
            some.owned(hashed),
            removed,
            some.mask(iter(keys)),
            some.owned(tuple(keys)),
            some.owned(keys),
            engine.hash_all(keys),
        )

    both(ask)
    for key in keys:
        both(lambda engine, key=key: engine.hash_key(key, 5))


def check_arrays(data):
    texts = [
        data.ConsumeUnicodeNoSurrogates(data.ConsumeIntInRange(0, 40))
        for _ in range(data.ConsumeIntInRange(0, 8))
    ]
    kind = KINDS[data.ConsumeIntInRange(0, len(KINDS) - 1)]
    values = [text.encode() for text in texts] if "binary" in str(kind) else list(texts)
    nulls = data.ConsumeIntInRange(0, 5)
    array = pa.array([None if i == nulls - 1 else v for i, v in enumerate(values)], kind)
    start = data.ConsumeIntInRange(0, len(values))
    arrays = [array, array[start:], pa.chunked_array([array[:start], array[start:]], kind)]
    if texts:
        wide = np.array(texts)
        raw = np.array([text.encode() for text in texts])
        arrays += [wide[::-1], wide[start:], raw[::2], raw]
    for given in arrays:
        both(lambda engine, given=given: engine.SlotSet.full(64).owned(given))
        both(lambda engine, given=given: engine.SlotSet.of([3, 9, 40], 64).mask(given))


def check_table(data):
    ids = tuple(
        sorted({data.ConsumeUnicodeNoSurrogates(8) for _ in range(data.ConsumeIntInRange(0, 8))})
    )
    bits = data.ConsumeIntInRange(0, 8)
    counts = [data.ConsumeIntInRange(0, 20) for _ in ids]
    capacities = [data.ConsumeIntInRange(0, 1 << bits) for _ in ids]
    seed = data.ConsumeIntInRange(0, 2**32 - 1)
    keys = [data.ConsumeUnicodeNoSurrogates(12) for _ in range(5)]

    def ask(engine):
        try:
            table = engine.Table(ids, counts, capacities, 1 << bits, seed)
        except ValueError as error:
            return type(error).__name__
        return (
            table.table.tobytes(),
            [table.owners(key, 3) for key in keys],
            [table.slots_of(i).tobytes() for i in range(len(ids))],
            table.shares(keys),
        )

    both(ask)


def check_sets(data):
    bits = [data.ConsumeIntInRange(0, 8) for _ in range(2)]
    bitmaps = [data.ConsumeBytes(data.ConsumeIntInRange(0, 33)) for _ in range(2)]

    def ask(engine):
        one, two = (
            engine.SlotSet.frombytes(bitmap, 1 << b)
            for bitmap, b in zip(bitmaps, bits, strict=True)
        )
        made = [one & two, one | two, one - two, one ^ two]
        return (
            [(list(each), len(each), bool(each), each.tobytes()) for each in made],
            one <= two,
            one < two,
            one == two,
            one.isdisjoint(two),
        )

    both(ask)


CHECKS = [check_keys, check_arrays, check_table, check_sets]


def one_input(raw):
    data = atheris.FuzzedDataProvider(raw)
    CHECKS[data.ConsumeIntInRange(0, len(CHECKS) - 1)](data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
