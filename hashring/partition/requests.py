"""`Requests`: what operators ask of this member, and what it does about that.

They come with the readings of the group. This module calls no store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.protocol.request import ACCEPTED, EVICT, REFUSED, Answer, Request

__all__ = ["OnRequest", "Requests"]

log = logging.getLogger("hashring")

_MEANING = {
    (True, True): "its share stays as it is until that is thawed, or somebody crashes",
    (True, False): "it came later, and holds nothing until that is thawed",
    (False, False): "who came and who left since then count again",
}

OnRequest = Callable[[Request], object]
"""What a program has to say to a request: ``False`` refuses it."""


class Requests:
    """Carries out what is asked of one member.

    Args:
        member: which one.
        loops: the streams of windows that end with it.
        on_request: is told of each request first, in the thread that reconciles.

    Attributes:
        must_end: it was asked to leave, and nobody else may be there to see it through.
    """

    def __init__(self, member: Membership, loops: Loops, on_request: OnRequest | None) -> None:
        self._member = member
        self._loops = loops
        self._on_request = on_request
        self._seen: set[str] = set()
        self._was_frozen = False
        self.must_end = False

    def look(self) -> None:
        """See what the latest reading asks of this member, and begin to do it."""
        handoff = self._member.handoff
        word = handoff.freeze
        if word is not None and word.on != self._was_frozen:
            self._was_frozen = word.on
            log.info(
                "%s: %s is %s by %r: %s",
                self._member.group,
                self._member.member,
                "frozen" if word.on else "thawed",
                word.by,
                _MEANING[word.on, handoff.stays],
            )
        for request in handoff.requests:
            is_ours = (request.member, request.incarnation) == (
                handoff.member,
                handoff.incarnation,
            )
            if is_ours and request.id not in self._seen and not handoff.has_left:
                self._seen.add(request.id)
                self._take(request)

    def _take(self, request: Request) -> None:
        member = self._member
        member.requests = (*member.requests, request)
        name = f"{member.group}: {member.member}"
        if request.what == EVICT:
            log.warning(
                "%s: evicted: %r asks it to hold nothing from now on (request %s)",
                name, request.by, request.id,
            )  # fmt: skip
            self._ask_the_program(request)
            self.must_end = member.stopping = True
            member.ended.set()
            return
        accepted = self._ask_the_program(request) is not False
        answer = Answer(request.id, ACCEPTED if accepted else REFUSED)
        with member.lock:
            member.handoff.answer = answer
        if not accepted:
            log.warning(
                "%s: does not drain, as %r asks (request %s): the program refuses",
                name, request.by, request.id,
            )  # fmt: skip
            return
        log.info("%s: drains, as %r asks (request %s)", name, request.by, request.id)
        self.must_end = member.stopping = True
        with member.lock:
            self._loops.read_notes()
            member.begin_drain()

    def _ask_the_program(self, request: Request) -> object:
        if self._on_request is None:
            return None
        try:
            return self._on_request(request)
        except Exception:
            log.exception(
                "%s: on_request failed for %r, which is carried out all the same",
                self._member.group,
                request.what,
            )
            return None
