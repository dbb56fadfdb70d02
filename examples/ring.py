"""The ring alone: no store, no process but this one.

python ring.py
"""

import hashring

hosts = hashring.Keys(f"host-{number}" for number in range(100_000))
ring = hashring.HashRing({"small": 1, "big": 2})
for member in ring.members:
    print(f"{member}: {len(ring.owned(member, hosts)):,} hosts")

larger = ring.with_member("new")
moved = sum(
    before != after
    for before, after in zip(ring.mask("big", hosts), larger.mask("big", hosts), strict=True)
)
print(f"a third member takes {moved:,} of them from big")
