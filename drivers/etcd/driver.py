"""``etcd://`` and ``etcds://``: processes of many hosts that share an etcd.

A member is a key with a lease of its own; its value is the record. What must hold, and what keeps
it:

* A lease ends when the leader revokes it, which removes the key: an event of the log, in one order
  with all that is written. Nobody who was read as gone comes back.
* A heartbeat counts only where a majority confirms, *after* the lease was kept alive, that the
  leader of the same term leads still: one that was replaced keeps leases alive that its
  successor counts from earlier.
* Writes keep their order: a record is written only over the revision of the key that is known. What
  was held up on its way finds another revision, or a lease that was revoked.
* An etcd that was restored or rebuilt has forgotten: see :mod:`.memory`.
* A record that the store lost although it had confirmed it is written again before a heartbeat
  is confirmed.

It speaks to etcd's JSON gateway (:mod:`.gateway`), and knows nothing of the hand-off.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import logging
import math
import secrets
import threading
from collections.abc import Iterator

from hashring.clock import boottime
from hashring.driver import (
    Driver,
    DriverURL,
    Reading,
    Traffic,
    check_names,
    check_record,
    incarnation_of,
)
from hashring.errors import StoreUnavailable

from .._net import tell_limits, within_the_lease
from .address import OPTIONS, Keys, root_of
from .gateway import Gateway, Refused, ranging, text64, transaction
from .past import Past
from .state import Group, Own
from .watching import Watch

__all__ = ["EtcdDriver"]

_log = logging.getLogger(__name__)


class EtcdDriver(Driver):
    """Groups as keys of an etcd cluster.

    The URL's hosts are endpoints of one cluster, of which any may fail. The path is what all keys
    begin with; ``/hashring`` by default.

    Example:
        >>> from hashring.driver import load
        >>> load("etcds://agent:secret@one,two,three/agents", ttl=10.0).url
        DriverURL('etcds://agent:***@one,two,three/agents')
    """

    promise = "a lease of etcd's own; survives the loss of a minority; tells when it was restored"
    epochs = "etcd's revision of the key; falls only in a restore without --bump-revision"
    options = OPTIONS

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self.traffic = Traffic()
        self._keys = Keys(root_of(self.url))
        self._gateway = Gateway(self)
        self._begin()

    def _begin(self) -> None:
        """Make what belongs to one process."""
        self._of_process = self.token
        self._writing = threading.Lock()
        self._guard = threading.Lock()  # of what is below
        self._own: dict[tuple[str, str], Own] = {}
        self._groups: dict[str, Group] = {}
        self._term = 0  # of the leader, when a heartbeat was confirmed last
        self._past = Past(self._gateway, self._keys, self.ttl)

    # -- life

    def open(self) -> None:
        """Connect, and see that keys can be read.

        Raises:
            StoreUnusable: wrong user or password, or no right to the keys.
            StoreUnavailable: no endpoint answered in time, or there is no leader.
        """
        if self._of_process != self.token:
            self._begin()
        elif self._gateway.is_open:
            return
        tell_limits(self)
        self._gateway.open()
        try:
            deadline = self._gateway.deadline()
            self._gateway.ask(
                "connecting", ranging(self._keys.group("")), deadline=deadline, opening=True
            )
            self._past.read(deadline)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all connections; a :meth:`wait` in another thread returns. Leases run on."""
        if not self._gateway.is_open or self._of_process != self.token:
            return
        with self._guard:
            groups = list(self._groups.values())
        self._gateway.close()
        for state in groups:
            if (watch := state.watch) is not None:
                watch.wake()
            with state.waiting:  # whoever waits lets go now
                self._unwatch(state)

    # -- the lease

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        self._gateway.check_open()
        deadline = self._gateway.deadline()
        with self._writes(deadline):
            own = self._own.get((group, member))
            incarnation = incarnation_of(record)
            same = own is not None and not own.lost and own.incarnation == incarnation
            if own is not None and same:
                self._renew({(group, member): own}, deadline, locked=True)
                if not own.lost and self._put(group, member, own, record, deadline):
                    return
            self._begin_lease(group, member, incarnation, record, deadline)

    def _begin_lease(
        self, group: str, member: str, incarnation: str | None, record: bytes, deadline: float
    ) -> None:
        own = Own(secrets.randbits(62) + 1, incarnation, record)
        doing, ttl = f"join of {member!r}", math.ceil(self.ttl)
        self._grant(doing, own.lease, ttl, deadline)
        key = self._keys.member(group, member)
        put = {"key": text64(key), "value": text64(record), "lease": str(own.lease)}
        absent = {"key": text64(key), "target": "CREATE", "create_revision": "0"}
        answer = self._gateway.ask(
            doing,
            transaction(
                [absent], [{"request_put": put}], [{"request_range": {"key": text64(key)}}]
            ),
            deadline=deadline,
        )
        revision = int(answer["header"]["revision"])
        if not answer.get("succeeded"):
            kvs = answer["responses"][0]["response_range"].get("kvs", [])
            found = kvs[0] if kvs else {}
            if int(found.get("lease", 0)) != own.lease:  # else a first try was done after all
                self._revoke(own.lease, deadline, quietly=True)
                other = incarnation_of(base64.b64decode(found.get("value", "")))
                raise self.member_exists(group, member, other)
            revision = int(found["mod_revision"])
        own.revision = revision
        with self._guard:
            self._own[group, member] = own

    def seize(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.seize`."""
        check_names(group, member)
        check_record(record)
        self._gateway.check_open()
        deadline, doing = self._gateway.deadline(), f"seizing the lease of {member!r}"
        own = Own(secrets.randbits(62) + 1, incarnation_of(record), record)
        key = text64(self._keys.member(group, member))
        with self._writes(deadline):
            self._grant(doing, own.lease, math.ceil(self.ttl), deadline)
            there = {"key": key, "target": "CREATE", "result": "GREATER", "create_revision": "0"}
            put = {"key": key, "value": text64(record), "lease": str(own.lease)}
            answer = self._gateway.ask(
                doing, transaction([there], [{"request_put": put}]), deadline=deadline
            )
            if not answer.get("succeeded"):
                self._revoke(own.lease, deadline, quietly=True)
                raise self.lease_lost((group, member))
            own.revision = int(answer["header"]["revision"])
            with self._guard:
                self._own[group, member] = own

    def _grant(self, doing: str, lease: int, ttl: int, deadline: float) -> None:
        body = {"ID": str(lease), "TTL": str(ttl)}
        try:
            (answer,) = self._gateway.call(
                doing, "/lease/grant", body, deadline=deadline, refusable=True
            )
        except Refused as error:
            if not error.exists:  # a first try was done after all
                raise self.unavailable(doing, error) from error
            return
        if int(answer["TTL"]) > ttl:
            _log.debug(
                "%s: etcd grants no lease shorter than %s s, 1.5 times its election timeout",
                self.url,
                answer["TTL"],
            )

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`.

        A record that the store has lost, though it had confirmed it, is written again first.
        """
        self._gateway.check_open()
        deadline = self._gateway.deadline()
        with self._guard:
            own = dict(self._own)
        leases = {key: each for key, each in own.items() if not each.lost}
        if leases:
            self._renew(leases, deadline)
        with self._guard:
            # What the other thread left or joined anew meanwhile is not lost.
            gone = [key for key in own if own[key].lost and self._own.get(key) is own[key]]
        if gone:
            raise self.lease_lost(*sorted(gone))

    def _renew(
        self, leases: dict[tuple[str, str], Own], deadline: float, *, locked: bool = False
    ) -> None:
        """Renew leases; note which are lost.

        Args:
            leases: by group and member.
            deadline: in seconds on the boot-time clock.
            locked: the caller writes, and will write the records anew.
        """
        while True:
            term = self._kept_alive(list(leases.values()), deadline)
            gets = [{"request_range": {"key": text64(self._keys.member(*key))}} for key in leases]
            answer = self._gateway.ask(
                "heartbeat", transaction([], gets), deadline=deadline, use="heart"
            )
            known, self._term = self._term, int(answer["header"]["raft_term"])
            if known == term == self._term:
                break
            # A leader was elected meanwhile: who kept the leases alive may not have been one.
        behind = {}
        for (key, own), each in zip(leases.items(), answer["responses"], strict=True):
            kvs = each["response_range"].get("kvs", [])
            if not kvs or int(kvs[0].get("lease", 0)) != own.lease:
                own.lost = True
            elif int(kvs[0]["mod_revision"]) < own.revision:
                behind[key] = own
        for key, own in behind.items() if not locked else ():
            with self._writes(deadline):
                # By now the other thread may have written a newer one, or left.
                if self._own.get(key) is own and not self._put(*key, own, own.record, deadline):
                    own.lost = True

    def _kept_alive(self, leases: list[Own], deadline: float) -> int:
        """Have leases run from now on; note which are lost, and return the leader's term."""
        terms = set()
        for own in leases:
            (answer,) = self._gateway.call(
                "heartbeat",
                "/lease/keepalive",
                {"ID": str(own.lease)},
                deadline=deadline,
                use="heart",
            )
            if int(answer["result"].get("TTL", 0)) <= 0:
                own.lost = True
            terms.add(int(answer["result"]["header"]["raft_term"]))
        return terms.pop() if len(terms) == 1 else -1

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        self._gateway.check_open()
        with self._guard:
            own = self._own.pop((group, member), None)
        if own is not None:
            deadline = self._gateway.deadline()
            with self._writes(deadline):
                self._revoke(own.lease, deadline)

    def _revoke(self, lease: int, deadline: float, *, quietly: bool = False) -> None:
        """End a lease, and with it the key that it has."""
        doing = "leave"
        try:
            body = {"ID": str(lease)}
            self._gateway.call(doing, "/lease/revoke", body, deadline=deadline, refusable=True)
        except Refused as error:
            if not error.not_found and not quietly:
                raise self.unavailable(doing, error) from error
        except StoreUnavailable:
            if not quietly:
                raise

    # -- records

    def publish(self, group: str, member: str, record: bytes) -> int:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        self._gateway.check_open()
        deadline = self._gateway.deadline()
        with self._writes(deadline):
            own = self._own.get((group, member))
            if own is None or own.lost or own.incarnation != incarnation_of(record):
                raise self.lease_lost((group, member))
            if not self._put(group, member, own, record, deadline):
                raise self.lease_lost((group, member))
            return own.revision

    def _put(self, group: str, member: str, own: Own, record: bytes, deadline: float) -> bool:
        """Write a record over the one that is known; return whether the lease is there still."""
        doing, key = f"publish of {member!r}", text64(self._keys.member(group, member))
        base = own.revision
        while True:
            compare = [
                {"key": key, "target": "LEASE", "lease": str(own.lease)},
                {"key": key, "target": "MOD", "mod_revision": str(base)},
            ]
            put = {"key": key, "value": text64(record), "lease": str(own.lease)}
            try:
                answer = self._gateway.ask(
                    doing,
                    transaction(compare, [{"request_put": put}], [{"request_range": {"key": key}}]),
                    deadline=deadline,
                    refusable=True,
                )
            except Refused as error:
                if error.not_found:
                    return False
                raise self.unavailable(doing, error) from error
            if answer.get("succeeded"):
                own.record, own.revision = record, int(answer["header"]["revision"])
                return True
            kvs = answer["responses"][0]["response_range"].get("kvs", [])
            if not kvs or int(kvs[0].get("lease", 0)) != own.lease:
                return False
            base = int(kvs[0]["mod_revision"])
            if base > own.revision and base64.b64decode(kvs[0].get("value", "")) == record:
                own.record, own.revision = record, base  # a first try was done after all
                return True

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)
        deadline = self._gateway.deadline()
        answer = self._past.read(deadline, group)
        state = self._group(group)
        kvs = answer["responses"][1]["response_range"].get("kvs", [])
        state.revision = int(answer["header"]["revision"])
        state.seen = {kv["key"]: int(kv["mod_revision"]) for kv in kvs}
        records = {
            Keys.member_of(base64.b64decode(kv["key"]).decode()): base64.b64decode(
                kv.get("value", "")
            )
            for kv in kvs
        }
        return Reading(records, self._past.age())

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`."""
        check_names(group)
        self._gateway.check_open()
        state, end = self._group(group), boottime() + timeout
        if not state.waiting.acquire(timeout=max(0.0, timeout)):
            return
        try:
            self._until_changed(group, state, end)
        except StoreUnavailable:
            # It was neither close() that cut us off, nor the end of the time.
            if self._gateway.is_open and boottime() < end:
                raise
        finally:
            state.waiting.release()

    def groups(self) -> list[str]:
        """See :meth:`hashring.driver.Driver.groups`."""
        answer = self._gateway.ask(
            "listing the groups",
            ranging(self._keys.groups, keys_only=True),
            deadline=self._gateway.deadline(),
        )
        kvs = answer["responses"][0]["response_range"].get("kvs", [])
        return sorted({Keys.group_of(base64.b64decode(kv["key"]).decode()) for kv in kvs})

    def _until_changed(self, group: str, state: Group, end: float) -> None:
        prefix = self._keys.group(group)
        if state.watch is not None and state.watch.revision > state.revision:
            self._unwatch(state)
        next_look = boottime() + self.settings["poll"]
        while self._gateway.is_open and (now := boottime()) < end:
            deadline = min(self._gateway.deadline(), max(end, now + 0.1))
            if state.watch is None:
                try:
                    state.watch = Watch(self._gateway, prefix, state.revision, deadline)
                except (OSError, http.client.HTTPException, ValueError, Refused) as error:
                    self._gateway.turn()
                    raise self.unavailable("wait", error) from error
                continue  # close() may have come meanwhile
            if now >= next_look:
                answer = self._gateway.ask(
                    "wait", ranging(prefix, keys_only=True), deadline=deadline
                )
                kvs = answer["responses"][0]["response_range"].get("kvs", [])
                if {kv["key"]: int(kv["mod_revision"]) for kv in kvs} != state.seen:
                    self._unwatch(state)  # it should have told
                    return
                next_look = boottime() + self.settings["poll"]
            if state.watch.heard(min(end, next_look)):
                self._unwatch(state)
                return

    @staticmethod
    def _unwatch(state: Group) -> None:
        watch, state.watch = state.watch, None
        if watch is not None:
            watch.close()

    # -- what every operation shares

    def _group(self, group: str) -> Group:
        with self._guard:
            return self._groups.setdefault(group, Group())

    @contextlib.contextmanager
    def _writes(self, deadline: float) -> Iterator[None]:
        """Keep this driver's writes apart."""
        if not self._writing.acquire(timeout=max(0.0, deadline - boottime())):
            raise StoreUnavailable(f"{self.url}: an earlier write took all the time there was")
        try:
            yield
        finally:
            self._writing.release()
