"""What would move if members came or went: two tables, compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from hashring.errors import BadArgument
from hashring.observe.description import Preview
from hashring.observe.records import Records
from hashring.ring.ring import HashRing

__all__ = ["preview"]


def preview(
    records: Records,
    *,
    add: Mapping[str, float] | None = None,
    remove: Iterable[str] = (),
    keys: Iterable[str] | None = None,
) -> Preview:
    """Say what a change of the group would move.

    Args:
        records: one reading of the group.
        add: the weights of those who would come, by id; or of members that are there, anew.
        remove: the ids of those who would go.
        keys: keys of which to count those that would move.

    Raises:
        BadArgument: one who would go is not there, or no record can be read.
        BadRing: an id or a weight is invalid.
    """
    if records.view is None:
        raise BadArgument("no record of the group can be read: there is nothing to preview")
    before = records.view.ring
    members = dict(before.members)
    for id in remove:
        if id not in members:
            known = ", ".join(sorted(members)) or "none"
            raise BadArgument(f"no member {id!r:.200} owns anything; those that do: {known:.500}")
        del members[id]
    members.update({} if add is None else add)
    after = HashRing.from_spec(members, before.spec)
    moves = _moves(before, after)
    moved = sum(moves.values())
    of_keys, moved_keys = _count(before, after, keys)
    return Preview(
        slots=moved,
        share_moved=moved / records.slots,
        keys=None if keys is None else moved_keys,
        of_keys=of_keys,
        before=_shares(before),
        after=_shares(after),
        balance=_balance(after),
        moves=tuple((one, other, count) for (one, other), count in moves.most_common()),
    )


def _owners(ring: HashRing) -> list[str | None]:
    if not len(ring.table):
        return [None] * ring.universe
    return [ring.ids[index] for index in ring.table]


def _moves(before: HashRing, after: HashRing) -> Counter[tuple[str | None, str | None]]:
    pairs = zip(_owners(before), _owners(after), strict=True)
    return Counter((one, other) for one, other in pairs if one != other)


def _shares(ring: HashRing) -> dict[str, int]:
    return {id: len(ring.slots(id)) for id in ring.members}


def _count(before: HashRing, after: HashRing, keys: Iterable[str] | None) -> tuple[int, int]:
    number = moved = 0
    owners, others = _owners(before), _owners(after)
    for key in keys or ():
        slot = before.slot(key)
        number += 1
        moved += owners[slot] != others[slot]
    return number, moved


def _balance(ring: HashRing) -> float:
    total = sum(ring.members.values())
    if not total:
        return 1.0
    return max(
        len(ring.slots(id)) / (ring.universe * weight / total)
        for id, weight in ring.members.items()
        if weight
    )
