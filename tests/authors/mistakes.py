"""Mistakes that a driver's author may make, each a small change of a driver that makes none.

Each names the test of the suite that finds it. What is replaced stands word for word in
``hashring_postgresql.py``.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        name: what the driver does wrong.
        test: of the suite, which finds it.
        changes: what is replaced in the driver's source, and by what.
    """

    name: str
    test: str
    changes: tuple[tuple[str, str], ...]

    @property
    def needs_a_server(self) -> bool:
        """Whether the test stops or freezes the server, which then can be nobody else's."""
        return self.test.startswith("test_server_")

    def planted(self, source: str) -> str:
        """Return the driver's source with this mistake in it."""
        for old, new in self.changes:
            assert old in source, f"{self.name}: the driver has no {old!r}"
            source = source.replace(old, new)
        compile(source, self.name, "exec")
        return source


def _mistake(name: str, test: str, *changes: tuple[str, str]) -> Mistake:
    return Mistake(name, test, changes)


_INSERTED = ":record, {NOW} + :ttl)"
_RENEWED = "SET expires = {NOW} + :ttl WHERE {MINE}"
_EXISTS = 'if found and found != [[key["token"], key["inc"]]]:'
_REAPED = "AND expires <= {NOW}"
_READ = """        reading = self._read(group)
        self._seen[group] = reading.records
"""
_BEAT = """        self._check_open()
        with self._guard:
            own = dict(self._own)
"""
_OUTLIVED = "test_a_member_that_does_not_heartbeat_is_gone_after_its_lease_and_not_before"
_BY_CLIENT = "test_no_wall_clock_of_a_client_enters_a_lease"

MISTAKES = (
    # -- time
    _mistake(
        "a heartbeat that does nothing within half a lease of the last",
        "test_a_heartbeat_soon_after_another_renews_the_lease_as_well",
        (
            _BEAT,
            """        self._check_open()
        if time.monotonic() < getattr(self, "_beat", 0.0) + self.ttl / 2:
            return
        self._beat = time.monotonic()
        with self._guard:
            own = dict(self._own)
""",
        ),
    ),
    _mistake(
        "a lease that begins by the client's wall clock",
        _BY_CLIENT,
        (_INSERTED, ":record, {time.time()} + :ttl)"),
    ),
    _mistake(
        "a lease that is renewed by the client's wall clock",
        _BY_CLIENT,
        (_RENEWED, "SET expires = {time.time()} + :ttl WHERE {MINE}"),
    ),
    _mistake(
        "a lease whose end is judged by the reader's wall clock",
        _BY_CLIENT,
        (_REAPED, "AND expires <= {datetime.datetime.now().timestamp()}"),
        ("import contextlib\n", "import contextlib\nimport datetime\n"),
    ),
    _mistake(
        "a memory age by the client's wall clock",
        "test_the_memory_age_is_not_by_a_clients_wall_clock",
        ('f"SELECT {NOW} - since', 'f"SELECT {time.time()} - since'),
    ),
    _mistake(
        "no time limits at all",
        "test_server_frozen_keeps_no_call_for_ever",
        ("return time.monotonic() + self._limit", "return time.monotonic() + 3600"),
    ),
    _mistake(
        "a heartbeat without a time limit",
        "test_server_frozen_keeps_no_call_for_ever",
        (
            "        deadline = self._deadline()\n        lost = []\n",
            "        deadline = time.monotonic() + 3600\n        lost = []\n",
        ),
    ),
    _mistake(
        "joining again does not renew the lease",
        "test_joining_again_renews_the_lease_and_the_record",
        (" SET record = excluded.record, expires = excluded.expires", " SET record = :record"),
    ),
    _mistake(
        "joining again does not replace the record",
        "test_joining_again_renews_the_lease_and_the_record",
        (
            " SET record = excluded.record, expires = excluded.expires",
            " SET expires = excluded.expires",
        ),
    ),
    _mistake(
        "a memory age that grows three times too fast",
        "test_the_memory_age_grows_with_time_and_no_faster",
        ("max(0.0, age)", "max(0.0, 3 * age)"),
    ),
    _mistake(
        "a memory age that does not grow",
        "test_the_memory_age_grows_with_time_and_no_faster",
        ("max(0.0, age)", "0.0"),
    ),
    _mistake(
        "a reaper half a second late",
        "test_a_lease_that_ran_out_is_gone_at_once",
        (_REAPED, "AND expires + 0.5 <= {NOW}"),
    ),
    _mistake(
        "a ttl rounded down",
        "test_a_lease_that_ran_out_is_gone_at_once",
        ("ttl=self.ttl,\n", "ttl=int(self.ttl),\n"),
    ),
    _mistake(
        "a ttl rounded up",
        "test_a_lease_that_ran_out_is_gone_at_once",
        ("ttl=self.ttl,\n", "ttl=-int(-self.ttl // 1),\n"),
    ),
    _mistake("leases of half a ttl", _OUTLIVED, (_INSERTED, ":record, {NOW} + :ttl / 2)")),
    _mistake("leases that never end", _OUTLIVED, (_REAPED, "AND expires <= 0")),
    _mistake(
        "a heartbeat for half a ttl",
        "test_a_heartbeat_that_returns_keeps_the_lease_for_ttl_from_its_call",
        (_RENEWED, "SET expires = {NOW} + :ttl / 2 WHERE {MINE}"),
    ),
    _mistake(
        "a heartbeat that swallows every error",
        "test_a_lease_that_ran_out_is_reported_and_does_not_come_back",
        ("raise self.lease_lost(*lost)", "pass"),
    ),
    _mistake(
        "a lost lease that is reported once",
        "test_a_lease_that_ran_out_is_reported_and_does_not_come_back",
        (
            "raise self.lease_lost(*lost)",
            "[self._own.pop(key) for key in lost]\n            raise LeaseLost(str(lost))",
        ),
    ),
    _mistake(
        "a heartbeat that stops at the first loss",
        "test_a_lost_lease_does_not_keep_the_others_from_being_renewed",
        ("lost.append((group, member))", "raise LeaseLost(member)"),
    ),
    _mistake(
        "a wait that holds the heartbeat up",
        "test_a_long_wait_does_not_hold_up_heartbeats",
        ('self._changing("heart", ', 'self._changing("rest", '),
        (
            "        deadline = time.monotonic() + timeout\n",
            "        with self._locks['rest']:\n            self._poll(group, timeout)\n\n"
            "    def _poll(self, group, timeout):\n"
            "        deadline = time.monotonic() + timeout\n",
        ),
    ),
    _mistake(
        "a wait that returns late",
        "test_wait_ends_at_its_timeout_where_nothing_changes",
        ("deadline = time.monotonic() + timeout", "deadline = time.monotonic() + timeout + 1.0"),
    ),
    _mistake(
        "a wait that does not wait",
        "test_wait_ends_at_its_timeout_where_nothing_changes",
        ("if self._read(group).records != seen:", "if True:"),
    ),
    _mistake(
        "a wait that sees only what changes after it began",
        "test_wait_wakes_for_what_changed_before_it_was_called",
        ("seen = self._seen.get(group)", "seen = self._read(group).records"),
    ),
    # -- who is who
    _mistake(
        "a join that overwrites a living incarnation",
        "test_a_second_driver_cannot_join_as_a_living_member",
        (_EXISTS, "if False:"),
        (" SET record =", " SET token = :token, incarnation = :inc, record ="),
    ),
    _mistake(
        "a join that asks for the incarnation alone",
        "test_a_second_driver_cannot_join_as_a_living_member",
        (_EXISTS, 'if found and found[0][1] != key["inc"]:'),
    ),
    _mistake(
        "a join that asks for the driver alone",
        "test_a_member_cannot_join_over_its_own_earlier_incarnation",
        (_EXISTS, 'if found and found[0][0] != key["token"]:'),
    ),
    _mistake(
        "a publish that upserts after the lease ran out",
        "test_a_lease_that_ran_out_is_reported_and_does_not_come_back",
        (
            "            if not run(change, record=record, **key):\n",
            "            run(\n"
            '                "INSERT INTO hashring_lease VALUES (:g, :id, :m, :token, :inc, :r,"\n'
            '                f"{NOW} + 9)"\n'
            '                " ON CONFLICT DO NOTHING", m=member.encode(), r=record, **key\n'
            "            )\n"
            "            if not run(change, record=record, **key):\n",
        ),
    ),
    _mistake(
        "a publish into anybody's record",
        "test_only_a_member_that_joined_can_publish",
        (
            "SET record = :record WHERE {MINE}",
            "SET record = :record WHERE in_group = :g AND id = :id",
        ),
    ),
    _mistake(
        "a leave that removes another's record",
        "test_leaving_is_idempotent_and_only_for_oneself",
        (
            "WHERE in_group = :g AND id = :id AND token = :token",
            "WHERE in_group = :g AND id = :id AND :token <> ''",
        ),
    ),
    _mistake(
        "a leave that goes on with the heartbeats",
        "test_a_member_that_leaves_is_gone_at_once",
        ("            self._own.pop((group, member), None)\n", "            pass\n"),
    ),
    _mistake(
        "a close that ends the leases",
        "test_a_lease_outlives_the_driver_that_closes_without_leaving",
        (
            "        self._closed.set()  # wakes up wait()\n",
            "        if not self._closed.is_set():\n"
            "            for key in list(self._own):\n"
            "                self.leave(*key)\n"
            "        self._closed.set()\n",
        ),
    ),
    # -- records and names
    _mistake(
        "reading from a cache",
        "test_what_was_published_is_what_the_next_read_shows",
        (
            _READ,
            """        if time.monotonic() > getattr(self, "_at", 0.0) + 0.2:
            self._at, self._cached = time.monotonic(), self._read(group)
        reading = self._cached
        self._seen[group] = reading.records
""",
        ),
    ),
    _mistake(
        "records cut at 64 KiB",
        "test_a_record_is_any_bytes_up_to_the_limit",
        ("run(change, record=record, **key)", "run(change, record=record[:65536], **key)"),
    ),
    _mistake(
        "records that are text",
        "test_a_record_is_any_bytes_up_to_the_limit",
        (": bytes(record) for", ": bytes(record).decode(errors='replace').encode() for"),
    ),
    _mistake(
        "records that are no bytes",
        "test_a_member_that_joins_is_read_by_all",
        (": bytes(record) for", ": memoryview(record) for"),
    ),
    _mistake(
        "a record above the limit is taken",
        "test_a_record_above_the_limit_is_refused_and_changes_nothing",
        ("        check_record(record)\n", ""),
    ),
    _mistake(
        "groups whose names collide",
        "test_groups_with_odd_ids_do_not_touch_each_other",
        ("sha256(name.encode())", "sha256(name.strip().split('/')[0].encode())"),
    ),
    _mistake(
        "members whose names collide",
        "test_odd_ids_are_kept_apart_and_come_back_as_they_were",
        ("sha256(name.encode())", "sha256(name.casefold().encode())"),
    ),
    _mistake(
        "ids that are cut",
        "test_odd_ids_are_kept_apart_and_come_back_as_they_were",
        ("member=member.encode(),", "member=member.encode()[:255],"),
    ),
    _mistake(
        "ids that are not checked",
        "test_an_id_that_cannot_be_carried_is_refused",
        ("        check_names(group)\n", ""),
    ),
    # -- life
    _mistake(
        "a closed driver that connects again by itself",
        "test_a_closed_driver_refuses_work_and_can_be_closed_again",
        (
            "        self._check_open()\n        with self._turn(use, doing, deadline):",
            "        with self._turn(use, doing, deadline):",
        ),
    ),
    _mistake(
        "a closed driver that cannot be opened again",
        "test_a_closed_driver_opens_again",
        (
            "        self._closed.clear()\n",
            "        if not hasattr(self, '_spent'):\n"
            "            self._closed.clear()\n"
            "        self._spent = True\n",
        ),
    ),
    _mistake(
        "threads that outlive the driver",
        "test_close_ends_every_thread",
        (
            "        self._closed.clear()\n",
            "        self._closed.clear()\n"
            "        threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        ),
    ),
    _mistake(
        "the client library's errors come through",
        "test_server_gone_is_an_error_in_time_and_no_reason_to_hang",
        ("raise self.unavailable(doing, error) from error", "raise"),
    ),
    _mistake(
        "a connection that broke is never made anew",
        "test_server_back_serves_the_drivers_that_it_had",
        (
            "            except FAILURES as error:\n                self._drop(use)\n",
            "            except FAILURES as error:\n",
        ),
    ),
    _mistake(
        "an error that shows the password",
        "test_a_secret_is_shown_nowhere",
        (
            "raise self.member_exists(group, member)",
            'raise type(self.member_exists(group, member))(f"{self.url.secret}@{self.url.hosts}")',
        ),
    ),
)
