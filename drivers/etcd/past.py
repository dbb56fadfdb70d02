"""Reads the mark with each group, and sees that it is of the store's present life.

What a mark is and what it tells, :mod:`.memory` says; here it is read and written.
"""

from __future__ import annotations

import base64
import dataclasses
import time
from typing import Any

from hashring.clock import boottime

from .address import Keys
from .gateway import Gateway, ranging, text64, transaction
from .memory import Life, Mark, Memory

__all__ = ["Past"]

_SETTLING = 0.02  # seconds after which a server that lags behind an election is asked again
_SETTLES = 5  # times


class Past:
    """What one driver knows of the store's past.

    Args:
        gateway: to the store.
        keys: their names.
        ttl: seconds; of an older memory nobody needs to be told.
    """

    def __init__(self, gateway: Gateway, keys: Keys, ttl: float) -> None:
        self._gateway, self._keys, self._ttl = gateway, keys, ttl
        self._memory = Memory()

    def age(self) -> float:
        """Return the seconds for which the store has surely forgotten nothing."""
        return self._memory.age(boottime())

    def read(self, deadline: float, group: str | None = None) -> dict[str, Any]:
        """Read the mark, and a group's members with it; see that the mark is of the present life.

        Returns:
            The answer to a transaction of two ranges, the mark and the members.
        """
        lagging = 0
        while True:
            began = boottime()
            prefix = self._keys.group(group or "")
            body = transaction(
                [],
                [
                    {"request_range": {"key": text64(self._keys.mark)}},
                    *ranging(prefix, count_only=group is None)["success"],
                ],
            )
            answer = self._gateway.ask("read", body, deadline=deadline)
            header = answer["header"]
            life = Life(int(header["cluster_id"]), int(header["raft_term"]), self._index(deadline))
            kvs = answer["responses"][0]["response_range"].get("kvs", [])
            mark = Mark.decoded(base64.b64decode(kvs[0].get("value", "")) if kvs else None)
            newer = mark is not None and mark.life.cluster == life.cluster
            if newer and mark is not None and mark.life.term > life.term and lagging < _SETTLES:
                lagging += 1  # a server that has not heard of an election yet, most likely
                time.sleep(_SETTLING)
                continue
            back = self._memory.went_back(life, int(header["revision"]))
            if mark is None or back or not life.continues(mark.life):
                self._write_mark(Memory.anew(self._full(life, deadline)), kvs, deadline)
                continue
            self._memory.saw(mark, boottime())
            if (older := self._memory.older(mark, began, self._ttl)) is not None:
                self._write_mark(older, kvs, deadline)
            return answer

    def _write_mark(self, mark: Mark, kvs: list[dict[str, Any]], deadline: float) -> None:
        """Write a mark over the one that was read, unless another did meanwhile."""
        key = text64(self._keys.mark)
        revision = kvs[0]["mod_revision"] if kvs else "0"
        compare = {"key": key, "target": "MOD", "mod_revision": revision}
        put = {"request_put": {"key": key, "value": text64(mark.encoded())}}
        self._gateway.ask("marking", transaction([compare], [put]), deadline=deadline)

    def _index(self, deadline: float) -> int:
        """Return the log's index where the connection is new, 0 where it was looked at."""
        connection = self._gateway.connection("rest")
        if connection is None or connection.checked:
            return 0
        index = self._status(deadline)
        connection.checked = True
        return index

    def _full(self, life: Life, deadline: float) -> Life:
        return life if life.index else dataclasses.replace(life, index=self._status(deadline))

    def _status(self, deadline: float) -> int:
        (answer,) = self._gateway.call(
            "looking at the server", "/maintenance/status", {}, deadline=deadline
        )
        return int(answer.get("raftIndex", 0))
