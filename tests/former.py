"""The former protocol's member, kept small: its gate waits for the whole group.

For groups that are upgraded one member after the other: this is what the members of the release
before the pair-wise gate do, on today's objects.
"""

import json

from hashring.protocol import gate
from hashring.protocol.handoff import Handoff, Wait


class WaitsForTheWholeGroup(Handoff):
    """Gains all or nothing, once every live record shows the same view, or null."""

    def _gain(self, now, wall):
        custody, view, missing = self._custody, self._target, self._missing()
        if self._settled == view and not custody.gaining and not missing:
            return None
        if self._lease.is_too_old_to_gain(now):
            return Wait("the lease is too old to gain on: a heartbeat must be confirmed first")
        if not self._is_fresh(self._token):
            return Wait("the reading began before the view was acked", seconds=0.0)
        others = [member for member in self.members.values() if member.id != self.member]
        behind = [member for member in others if member.applied not in (None, view.id)]
        if self.problems or behind:
            return Wait(f"waiting for {len(behind)} members to ack")
        self._settle(wall)
        mine = view.slots(self.member)
        is_awaited = any(
            not claim.slots.isdisjoint(mine) for member in others for claim in member.claims
        )
        if not missing and not custody.gaining and not is_awaited:
            return Wait("settled")
        custody.begin_gaining(gate.gains(self._roster, custody.claims, missing, wall))
        return self._publish(view)

    def _see_marks(self):
        """A mark is that of the whole share, under the view that both have acked."""
        view = self.applied
        for member in self._roster.others():
            if view is not None and view.id == member.applied == member.settled:
                self._custody.drop_claims(view.slots(member.id))

    def _record(self, applied):
        """A record of that time has neither the mark of a part nor the founding."""
        record = json.loads(super()._record(applied))
        for unknown in ("took", "founded"):
            record["meta"]["hashring"].pop(unknown, None)
        return json.dumps(record, separators=(",", ":"), sort_keys=True).encode()


def mixed(is_former):
    """Return what makes the hand-offs of a mixed group.

    Args:
        is_former: says of a member's id whether it runs the former protocol.
    """

    def make(member, **options):
        kind = WaitsForTheWholeGroup if is_former(member) else Handoff
        return kind(member, **options)

    return make
