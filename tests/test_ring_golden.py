"""Placement is a wire format: these vectors hold for ever, on every platform, on both engines.

``golden/placement.json`` was written once by ``python tests/test_ring_golden.py`` for layout 1.
A change that makes this file fail is a new layout, with new vectors beside the old.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden" / "placement.json"

KEYS = [
    "",
    "a",
    "0123456789abcde",
    "0123456789abcdef",
    "0123456789abcdefg",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "host-17/cpu0",
    "größe",
    "東京/温度",
    "🛰️ station",
    "\x00",
    "x" * 1000,
]

CASES = [
    ("murmur3/slots=65536/vnodes=512/bound=1.1/seed=0/layout=1", {"a": 1}),
    (
        "murmur3/slots=65536/vnodes=512/bound=1.1/seed=0/layout=1",
        {"agent-1": 1, "agent-2": 1, "agent-3": 1},
    ),
    (
        "murmur3/slots=65536/vnodes=512/bound=1.1/seed=0/layout=1",
        {f"agent-{i:03}": 1 for i in range(100)},
    ),
    (
        "murmur3/slots=65536/vnodes=512/bound=1.1/seed=4294967295/layout=1",
        {"a": 0.1, "b": 0.2, "c": 0.30000000000000004, "idle": 0},
    ),
    (
        "murmur3/slots=256/vnodes=32/bound=1.0/seed=7/layout=1",
        {"münchen": 1, "東京": 2.5, "🛰️": 3, "zürich\x00": 1e-3},
    ),
    (
        "murmur3/slots=1024/vnodes=64/bound=inf/seed=0/layout=1",
        {"big": 1e6, "small": 1, "tiny": 1e-6},
    ),
    (
        "murmur3/slots=4096/vnodes=16/bound=1.05/seed=1/layout=1",
        {"x": 1e-300, "y": 3e-300, "z": 5e-324},
    ),
    ("murmur3/slots=64/vnodes=1/bound=1.25/seed=0/layout=1", {f"m{i}": i for i in range(300)}),
    ("murmur3/slots=1/vnodes=3/bound=2.0/seed=0/layout=1", {"a": 1, "b": 1}),
    (
        "murmur3/slots=131072/vnodes=100/bound=1.2/seed=12345/layout=1",
        {"rack/1": 16, "rack/2": 64, "rack/3": 128, "rack/4": 24.5},
    ),
]


def described(make, spec, members):
    """What a ring computes, as JSON: a digest of the table in little-endian, and samples of it."""
    ring = make(members, spec)
    table = list(ring.table)
    data = struct.pack(f"<{len(table)}I", *table)
    return {
        "spec": ring.spec,
        "members": members,
        "table_sha256": hashlib.sha256(data).hexdigest(),
        "slots": {member: len(ring.slots(member)) for member in ring.members},
        "owners": {key: ring.owners(key, 3) for key in KEYS},
    }


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_placement_is_that_of_the_golden_vectors(twin, golden, case):
    spec, members = CASES[case]

    assert described(twin.HashRing.from_spec, spec, members) == golden["rings"][case]


def test_the_hashes_are_those_of_the_golden_vectors(twin, golden):
    assert {key: twin.hash_key(key) for key in KEYS} == golden["hashes"]


def test_the_vectors_are_all_tested(golden):
    assert len(golden["rings"]) == len(CASES)
    assert golden["layout"] == 1


def test_the_hash_is_murmur3_as_published(twin):
    # The reference implementation's answers: x64 128, first 8 bytes as a little-endian number.
    assert twin.hash_key(b"") == 0
    assert twin.hash_key(b"hello") == 0xCBD8A7B341BD9B02
    assert twin.hash_key(b"hello, world") == 0x342FAC623A5EBC8E
    assert twin.hash_key(b"The quick brown fox jumps over the lazy dog.") == 0xCD99481F9EE902C9
    assert twin.hash_key(b"hello", 1) == 0xA78DDFF5ADAE8D10


if __name__ == "__main__":
    if GOLDEN.exists():
        sys.exit(f"{GOLDEN} exists: placement does not change")
    from hashring.ring.reference import hash_key
    from hashring.ring.ring import HashRing

    GOLDEN.write_text(
        json.dumps(
            {
                "layout": 1,
                "hashes": {key: hash_key(key) for key in KEYS},
                "rings": [described(HashRing.from_spec, *case) for case in CASES],
            },
            indent=1,
            ensure_ascii=False,
        )
        + "\n",
        encoding="utf-8",
    )
