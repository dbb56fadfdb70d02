"""The kinds of run: what may happen in one, and how often. Values only."""

from __future__ import annotations

import dataclasses

from hashring.protocol.gathering import DEFAULT_GATHER
from hashring.protocol.windows import patience
from hashring.ring.ring import HashRing

__all__ = ["INTERVAL", "PROFILES", "SPEC", "STRANGE", "TTL", "Profile"]

# Few virtual nodes and no slack: a change moves many slots among those that stay, too, which is
# what mistakes in the protocol need to show.
SPEC = HashRing(slots=64, vnodes=3, load_bound=1.0).spec
STRANGE = HashRing(slots=64, vnodes=5, load_bound=1.0).spec
"""The ring of strangers: of the same slots, so that one held twice is seen."""
TTL = 3.0
INTERVAL = 1.0


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a run may do.

    Attributes:
        members: the least and the most members at the start.
        length: seconds of simulated time in which things happen; ttl is 3 s, a window 1 s.
        rates: the expected number of each event in a run.
        loss: the probability that a request, or its answer, is lost.
        slow: the probability that a request, or its answer, takes long.
        slowest: how long, in seconds.
        windows: members work windows, and each slot's are counted.
        loops: the intervals, in seconds, of the loops that each member has.
        catch_up: how many seconds ago a window may have begun to be worked late. Where members
            end one after the other they hand windows on for longer than a ttl.
        exactly: every window of every slot must be worked exactly once.
        at_most_once: no window of a slot may be worked twice.
        forgetful: the store may forget.
        on_crash: ``"repeat"`` or ``"skip"``.
        drift: the most by which the rate of a member's clock differs from the store's.
        skew: the most by which members' wall clocks differ, in seconds.
        overruns: the probability that a cycle takes longer than its window.
        longest: the most seconds that such a cycle takes.
        max_claims: the bound on a member's claims; 0: its default.
        late_loops: half of the members begin to work up to so many seconds after they have joined.
            A slot's windows then count from the first one in which that slot was worked.
        steps: the most by which the wall clocks step in one event, in seconds.
        silence: no slot may go unworked for longer than so many seconds; 0: not judged.
        strangers: members with another ring come, and retry where they are refused.
        gather: seconds in which a member turns to two views at most, where nobody crashes.
        grips: members act outside of windows too, each time for so many seconds at most; 0: never.
        freezes: operators freeze the group, and thaw it in the end.
    """

    members: tuple[int, int] = (2, 5)
    length: float = 8.0
    rates: tuple[tuple[str, float], ...] = ()
    loss: float = 0.0
    slow: float = 0.0
    slowest: float = 0.0
    windows: bool = False
    loops: tuple[float, ...] = (INTERVAL,)
    catch_up: float = TTL
    exactly: bool = False
    at_most_once: bool = False
    forgetful: bool = False
    on_crash: str = "repeat"
    drift: float = 0.0
    skew: float = 0.0
    overruns: float = 0.0
    longest: float = 0.0
    max_claims: int = 0
    late_loops: float = 0.0
    steps: float = 0.0
    silence: float = 0.0
    strangers: bool = False
    gather: float = DEFAULT_GATHER
    grips: float = 0.0
    freezes: bool = False


PROFILES: dict[str, Profile] = {
    "chaos": Profile(
        rates=(
            ("join", 4.0),
            ("crash", 2.0),
            ("drain", 2.0),
            ("pause", 3.0),
            ("flap", 1.5),
            ("away", 1.0),
            ("restart", 1.5),
        ),
        loss=0.03,
        slow=0.1,
        slowest=1.5,
        drift=0.04,
        skew=0.1,
        windows=True,
    ),
    "forgetful": Profile(
        rates=(
            ("join", 3.0),
            ("crash", 1.5),
            ("drain", 1.5),
            ("pause", 2.5),
            ("forget", 2.5),
            ("away", 1.0),
            ("restart", 1.0),
        ),
        loss=0.03,
        slow=0.1,
        slowest=1.5,
        drift=0.04,
        skew=0.1,
        windows=True,
        forgetful=True,
    ),
    "planned": Profile(
        rates=(
            ("join", 4.0),
            ("drain", 3.0),
            ("restart", 4.0),
            ("flap", 1.0),
            ("roll", 0.5),
            ("burst", 0.3),
        ),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        exactly=True,
    ),
    "ending": Profile(
        rates=(("join", 5.0), ("end", 4.0), ("stop", 2.0), ("drain", 2.0), ("restart", 1.0)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        exactly=True,
    ),
    "two-loops": Profile(
        rates=(("join", 4.0), ("drain", 3.0), ("restart", 4.0), ("flap", 1.0), ("stop", 3.0)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        loops=(INTERVAL, 2.5 * INTERVAL),
        catch_up=2.5 * INTERVAL + TTL,
        exactly=True,
    ),
    "two-loops-ending": Profile(
        rates=(("join", 5.0), ("end", 5.0), ("drain", 2.0), ("restart", 1.0)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        loops=(INTERVAL, 2.5 * INTERVAL),
        at_most_once=True,
    ),
    "crash-skip": Profile(
        rates=(("join", 1.0), ("crash", 1.0), ("restart", 1.0)),
        skew=0.1,
        windows=True,
        on_crash="skip",
    ),
    "crash-repeat": Profile(
        rates=(("join", 1.0), ("crash", 1.0), ("restart", 1.0)),
        skew=0.1,
        windows=True,
        on_crash="repeat",
    ),
    # Nothing fails: where claims are merged, a window may be worked again and none may be lost.
    "few-claims": Profile(
        rates=(("join", 5.0), ("drain", 3.0), ("restart", 4.0), ("flap", 3.0), ("roll", 0.5)),
        slow=0.05,
        slowest=0.5,
        skew=0.1,
        windows=True,
        catch_up=4 * TTL,
        max_claims=2,
    ),
    # Who has not worked yet knows of some slots which windows are left, and of others nothing: the
    # one must not swallow the other where claims are merged.
    "late-loops": Profile(
        members=(3, 6),
        length=6.0,
        rates=(("join", 6.0), ("flap", 6.0), ("restart", 2.0)),
        slow=0.1,
        slowest=0.5,
        skew=0.1,
        windows=True,
        catch_up=4 * TTL,
        max_claims=2,
        late_loops=2.5,
    ),
    "clock-steps": Profile(
        rates=(("join", 2.0), ("drain", 1.0), ("restart", 2.0), ("step", 3.0), ("step all", 1.0)),
        slow=0.02,
        slowest=0.3,
        windows=True,
        steps=60.0,
        # The wait for a small step, what is left out after a hand-over, and its own time.
        silence=patience(INTERVAL, TTL) + 5 * INTERVAL,
    ),
    "strangers": Profile(
        rates=(
            ("join", 2.0),
            ("crash", 1.0),
            ("drain", 1.0),
            ("pause", 1.0),
            ("outage", 1.0),
            ("away", 0.5),
            ("stranger", 3.0),
        ),
        loss=0.02,
        slow=0.05,
        slowest=0.5,
        drift=0.04,
        skew=0.1,
        windows=True,
        strangers=True,
    ),
    "pause-skip": Profile(
        rates=(("join", 1.0), ("pause", 1.0), ("restart", 1.0)),
        skew=0.1,
        windows=True,
        on_crash="skip",
    ),
    # Joins are gathered for so long that who waited for more after a crash would be late.
    "gathered": Profile(
        rates=(("join", 1.0), ("join", 1.0), ("join", 1.0), ("crash", 1.0)),
        skew=0.1,
        windows=True,
        on_crash="skip",
        gather=5 * TTL,
    ),
    # Members leave, saying that they come back: some in time, some too late, some in one after the
    # other. While a share is away nobody works it; nothing else may be missed, nothing repeated.
    "resume": Profile(
        members=(3, 5),
        rates=(("resume", 3.0), ("join", 2.0), ("restart", 1.0), ("drain", 1.0), ("flap", 0.5)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        on_crash="skip",
    ),
    # The same where keepers and those that are back crash: this is about who holds what.
    "resume-crash": Profile(
        members=(3, 5),
        rates=(
            ("resume", 3.0),
            ("join", 2.0),
            ("crash", 1.5),
            ("pause", 1.0),
            ("forget", 0.5),
            ("drain", 1.0),
        ),
        loss=0.02,
        slow=0.1,
        slowest=1.0,
        drift=0.04,
        skew=0.1,
        windows=True,
        forgetful=True,
    ),
    # What is held is kept for a time, some of it for longer than the change that takes it away.
    "grips": Profile(
        rates=(
            ("join", 4.0),
            ("crash", 1.0),
            ("drain", 2.0),
            ("pause", 1.5),
            ("flap", 1.5),
            ("away", 0.5),
            ("restart", 1.5),
        ),
        loss=0.02,
        slow=0.1,
        slowest=1.0,
        drift=0.04,
        skew=0.1,
        grips=0.5 * TTL,
    ),
    # While the group is frozen nobody gains by joins and drains, and nothing is repeated.
    "frozen": Profile(
        members=(2, 5),
        rates=(
            ("freeze", 1.5),
            ("thaw", 1.0),
            ("join", 3.0),
            ("drain", 1.5),
            ("restart", 1.5),
            ("resume", 0.7),
            ("flap", 0.5),
        ),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        on_crash="skip",
        freezes=True,
    ),
    # The same where members crash and the store forgets: this is about who holds what.
    "frozen-crash": Profile(
        rates=(
            ("freeze", 1.5),
            ("thaw", 1.0),
            ("join", 3.0),
            ("crash", 1.5),
            ("pause", 1.5),
            ("drain", 1.5),
            ("restart", 1.0),
            ("resume", 0.7),
            ("forget", 0.7),
            ("away", 0.5),
        ),
        loss=0.03,
        slow=0.1,
        slowest=1.5,
        drift=0.04,
        skew=0.1,
        windows=True,
        forgetful=True,
        freezes=True,
    ),
    # Members are given other weights, 0 among them, while others come and go.
    "weights": Profile(
        rates=(("weigh", 5.0), ("join", 2.0), ("drain", 2.0), ("restart", 1.0), ("flap", 0.5)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        exactly=True,
    ),
    "weights-chaos": Profile(
        rates=(
            ("weigh", 5.0),
            ("join", 2.0),
            ("crash", 1.5),
            ("pause", 1.5),
            ("forget", 0.5),
            ("away", 0.5),
            ("drain", 1.0),
        ),
        loss=0.05,
        slow=0.1,
        slowest=1.5,
        drift=0.04,
        skew=0.1,
        windows=True,
        forgetful=True,
    ),
    # Who weighs nothing since a moment ago may hold slots of another ring still.
    "weights-strangers": Profile(
        rates=(("weigh", 5.0), ("join", 2.0), ("outage", 1.0), ("pause", 1.0), ("stranger", 3.0)),
        loss=0.02,
        slow=0.1,
        slowest=0.5,
        skew=0.1,
        windows=True,
        strangers=True,
        overruns=0.2,
        longest=2.0 * TTL,
    ),
    "slow": Profile(
        rates=(("join", 5.0), ("drain", 3.0), ("restart", 3.0), ("flap", 1.5)),
        slow=0.1,
        slowest=2.0,
        skew=0.1,
        windows=True,
        at_most_once=True,
        overruns=0.2,
        longest=2.0 * TTL,
    ),
    "slow-crash": Profile(
        rates=(("join", 4.0), ("crash", 2.0), ("pause", 1.0), ("drain", 2.0), ("flap", 1.5)),
        slow=0.1,
        slowest=0.3,  # a mark is seen by all that read within 0.4 ttl
        skew=0.1,
        windows=True,
        catch_up=3 * TTL,  # what a stale claim would repeat must be young enough to be worked
        on_crash="skip",
        at_most_once=True,
        overruns=0.2,
        longest=2.0 * TTL,
    ),
}
"""The kinds of run; ``chaos`` and ``forgetful`` are for 4.1, the others for windows too."""
