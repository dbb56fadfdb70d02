"""The real hand-off on a simulated store, under a seeded scheduler: thousands of runs a minute.

A run is one group's life: members join, crash, drain, pause past their lease, heartbeat slowly and
read late; requests and answers are lost and delayed; the store goes away, comes back, and forgets.
Only time, threads and the network are simulated: :class:`~hashring.protocol.handoff.Handoff`,
:class:`~hashring.protocol.windows.Stream` and the choreography between them,
:class:`~hashring.protocol.runner.Runner`, are the very objects that run in production.

After every step a run checks that

* no two live members have one slot in hand, and each has a subset of ``table(applied)[itself]``,
  where ``applied`` is what the *store* has ("Why no slot is held twice" in ``docs/protocol.md``);
* what a running cycle has pinned is in hand for as long as the cycle is valid;

and, once the faults have stopped, that the group settles and holds every slot. With windows it
counts, for each loop, slot and window, how often it was worked ("Windows: exactly once").

Run it: ``python -m hashring.testing.simulation --runs 20000``. A violation prints its seed;
``--seed N --runs 1 --trace`` shows that run step by step.

The modules: `profiles` (what may happen), `store`, `members` (one process each), `scheduler` (time
and network), `world` (one run), `judge` (the checks), `runs`, `command`; for the search of every
state that a small group can reach: `lives`, `values`, `states`, `exhaustive`.
"""

from __future__ import annotations

from hashring.testing.simulation.profiles import PROFILES, Profile
from hashring.testing.simulation.result import Result, Violation
from hashring.testing.simulation.runs import run, run_many
from hashring.testing.simulation.store import SimulatedStore

__all__ = ["PROFILES", "Profile", "Result", "SimulatedStore", "Violation", "run", "run_many"]
