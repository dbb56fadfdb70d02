"""The hand-over: who may hold which slot, and from which window on.

Nothing here knows a clock, a thread, a socket or a store: readings, records and times come in as
arguments, and what is to be done comes out as values. Imports ``hashring.ring`` and
``hashring.errors`` alone. `docs/protocol.md` has the reasons, and the job of each module.

The rules
---------
*Invariant.* At every instant the slots that a live member holds are a subset of
``table(applied)[itself]``, where ``applied`` is what the **store** has in its record (null: it
holds nothing). A member past its fence holds nothing. So two members never hold one slot:
whoever gains it has seen that nobody else's record allows it.

1. **Drop before ack.** On a new view the slots that it takes away are *losing*: no new cycle
   gets them. Those that a running cycle pins, or that a begun window still owes work to, are
   dropped when that is done. Only then is the view published as ``applied``.
2. **Gain last, from those who held.** A slot is gained on one reading that began after the publish
   of ``applied`` returned, whose view is ``applied`` (or adds changes to it that are still
   gathered, see `gathering.py`), and in which every other live record, those
   that drain included, shows ``applied``, or null, or another view that this member *knows* (it
   has seen it, or can compute it from the records at hand) whose table does not give that slot to
   the record's member, with no claim on it. A view that nobody here knows may give its member
   anything: wait. Older evidence is worthless, a null seen earlier too.
   So slots are gained *in parts*: what is free now is gained now, and only what a slow member still
   holds waits for it.
3. **Fence.** ``deadline = start of the last confirmed heartbeat + 0.9 ttl``. At the deadline the
   held set reads as empty, for whoever asks. A heartbeat confirmed later un-fences, because it
   proves that the lease never ended; one from before a lost lease proves nothing and is ignored.
4. **A store that forgot** (``memory_age < ttl``): nobody acks, nobody gains. A member whose
   record is gone and whose fence has not passed rejoins with ``applied`` unchanged. Had the
   fence passed, or passes it before that join returns, it drops everything first.
5. **Custody** (windows, exactly once). A member that loses slots publishes a *claim*:
   "every window of these slots that starts before ``through`` is mine" (or that it has never
   worked one). It carries the claim, with the same ``through``, until it sees the new owner's
   *mark*: a list of the slots that it ``took``, or ``settled``, all that its view gives it. The
   mark is published, and confirmed, before the new owner acts, so custody changes hands in exactly
   one write. It outlives the view: an ack goes on with it for what others still claim. Whoever
   gains a slot takes the latest claim on it in the reading that let it gain.
   Views that some acked and others skipped need no special case: a member that never marked a slot
   never had custody, so the claim of the one before it stands. A claim that its author has dropped
   can still stand in its record, and an heir would believe it: hence "no claim" in rule 2. Where
   nobody live claims a slot its custodian crashed, and the gain says so.
6. **Strangers** (`founding.py` has the rule). Of members that differ in ring, ttl or mode, those
   whose parameters were founded first define the group. The others stand aside: one that has
   never settled raises :class:`GroupMismatch`; one that has drops everything, as for a view that
   gives it nothing, publishes null as ``applied``, and waits until the strangers are gone.
   Whoever defines the group gains only while no stranger shows anything but null: whatever a
   stranger has applied, it may hold slots by it.
7. **Epoch.** Where the store numbers the publishes of a group in their order, a member's epoch is
   the number of its latest mark. All marks of one holder of a slot come before it drops the slot,
   and the mark of the next one comes after that: so each holder's epoch is greater than the one's
   before it. Drawn any sooner, at the join say, it is not: a slot may go away and come back.

Terms: *target*, the view of the latest reading; *applied*, the last view whose publish was
confirmed; *sent*, what was asked of the store and not answered yet.
"""
