"""Whose a key is: by the table, and by what the records let their members hold now."""

from __future__ import annotations

from hashring.observe.description import Ownership
from hashring.observe.records import Records
from hashring.protocol.record import Member

__all__ = ["owner"]


def owner(records: Records, key: str) -> Ownership:
    """Say whose a key is.

    Args:
        records: one reading of the group.
        key: the key.

    Raises:
        BadKey: it cannot be encoded as UTF-8.
    """
    view = records.view
    if view is None:
        return Ownership(key, 0, None, None, None, "no record of the group can be read")
    ring = view.ring
    slot = ring.slot(key)
    previous = _claimant(records, slot)
    if not ring.members:
        return Ownership(key, slot, None, None, previous, "no member owns anything")
    by_table = ring.owner(key)
    holder, reason = _holder(records, slot, by_table)
    if previous == holder:
        previous = None
    return Ownership(key, slot, by_table, holder, previous, reason)


def _holder(records: Records, slot: int, by_table: str) -> tuple[str | None, str]:
    mine = records.members.get(by_table)
    if mine is None:
        return (
            None,
            f"{by_table} is away, and its place is kept for it",
        )
    if records.is_current(mine) and slot not in records.missing(mine):
        return by_table, ""
    unclear = sorted(records.problems)
    for other in records.members.values():
        held = records.holds(other)
        if held is None:
            unclear.append(other.id)
        elif other.id != by_table and slot in held:
            return other.id, f"{by_table} waits until {other.id} lets go of it"
        elif other.id == by_table and slot in held:
            return by_table, ""
    if unclear:
        names = ", ".join(unclear[:5])
        return None, f"what {names} may hold cannot be told, so {by_table} waits"
    if not records.memory_age >= mine.ttl:
        return None, f"the store may have forgotten members, so {by_table} waits"
    return None, f"nobody holds it: {by_table} is about to take it over"


def _claimant(records: Records, slot: int) -> str | None:
    """Return the member with the latest claim on a slot: it held it last, and let go."""
    found: tuple[float, Member] | None = None
    for member in records.members.values():
        for claim in member.claims:
            if slot in claim.slots and (found is None or claim.through > found[0]):
                found = claim.through, member
    return None if found is None else found[1].id
