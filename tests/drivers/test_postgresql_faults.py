"""What a PostgreSQL does to a group, and what the driver makes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashring.clock import boottime
from hashring.driver import Driver
from hashring.drivers.postgresql import migration
from hashring.errors import HashringError, LeaseLost, StoreUnavailable, StoreUnusable
from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened, opening
from tests.drivers.patience import until_it_works
from tests.servers.certificates import Certificates
from tests.servers.clocks import stepping
from tests.servers.postgresql import PASSWORD, Pair, PgBouncer, PostgreSQLServer
from tests.servers.process import LOOPBACK, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    """A server that no test stops, sets back or steps: for those that look at what it says."""
    with PostgreSQLServer() as running:
        yield running


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A function that returns an open driver; all are closed in the end."""
    with opening(ttl=30.0, timeout=9.0) as opened:
        yield opened


def of_role(server: PostgreSQLServer, role: str, rights: str = "", attributes: str = "") -> str:
    """Make a role, with rights on the table, and return its URL."""
    server.run(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' {attributes}")
    if rights:
        server.run(rights)
    return server.url.replace("//postgres:", f"//{role}:")


def grown_old(driver: Driver, group: str = "g", seconds: float = 0.3) -> None:
    wait_until(lambda: driver.read(group).memory_age > seconds, what="a memory that has grown")


class TestMemory:
    def test_a_standby_that_lacked_the_last_commits_is_a_store_that_forgot(
        self, opened: Opened
    ) -> None:
        with Pair() as pair:
            a = opened(pair.url)
            a.join("g", "a", record("1", turn=1))
            grown_old(a, seconds=0.5)
            pair.standby.stop()
            # Confirmed, and never replicated.
            lost = [a.publish("g", "a", record("1", turn=turn)) for turn in (*range(20), 2)]
            began = boottime()
            pair.fail_over(lagging=True)
            watcher = opened(pair.url)
            reading = until_it_works(lambda: watcher.read("g"))
            assert reading.memory_age <= boottime() - began
            # A heartbeat counts only once the record that was confirmed is there again.
            until_it_works(a.heartbeat)
            assert watcher.read("g").records["a"] == record("1", turn=2)
            # The standby gives out transactions again that the primary gave: in another timeline.
            assert a.publish("g", "a", record("1", turn=3)) > max(lost)

    def test_a_backup_that_is_restored_is_a_store_that_forgot(self, opened: Opened) -> None:
        with PostgreSQLServer() as server:
            a = opened(server.url)
            a.join("g", "a", record("1", turn=1))
            server.keep_copy()
            a.publish("g", "a", record("1", turn=2))
            a.join("g", "b", record("1"))
            grown_old(a)
            began = boottime()
            server.go_back_in_time()
            # Whoever comes first is told, also where he never saw the store before.
            newcomer = opened(server.url)
            assert until_it_works(lambda: newcomer.read("g")).memory_age <= boottime() - began
            with pytest.raises(LeaseLost, match="'b'"):
                until_it_works(a.heartbeat)
            assert newcomer.read("g").records == {"a": record("1", turn=2)}

    @pytest.mark.parametrize(
        "act",
        [
            "DO $$ BEGIN DELETE FROM {t}; INSERT INTO {t} SELECT * FROM {t}_copy; END $$",
            "TRUNCATE {t}",
            "DELETE FROM {t}",
            "DO $$ BEGIN DELETE FROM {t} WHERE octet_length(id) > 0;"
            " INSERT INTO {t} SELECT * FROM {t}_copy WHERE octet_length(id) > 0; END $$",
        ],
        ids=["older-rows-put-back", "truncated", "emptied", "older-leases-put-back"],
    )
    def test_rows_that_somebody_else_wrote_or_removed_make_the_memory_young(
        self, opened: Opened, server: PostgreSQLServer, request: pytest.FixtureRequest, act: str
    ) -> None:
        table = f"t_{abs(hash(request.node.name)) % 10**9}"
        a = opened(f"{server.url}?table={table}")
        a.join("g", "a", record("1", turn=1))
        a.join("g", "b", record("1", turn=1))
        server.run(f"CREATE TABLE {table}_copy AS TABLE {table}")
        a.publish("g", "a", record("1", turn=2))
        grown_old(a)
        began = boottime()
        server.run(act.format(t=table))
        newcomer = opened(f"{server.url}?table={table}")
        assert newcomer.read("g").memory_age <= boottime() - began
        # And all go on: who is still known writes again, who is not joins anew.
        with contextlib.suppress(LeaseLost):
            a.heartbeat()
        for member in ("a", "b"):
            with contextlib.suppress(HashringError):
                a.join("g", member, record("1", turn=3))
        a.heartbeat()
        grown_old(newcomer)
        assert set(newcomer.read("g").records.values()) == {record("1", turn=3)}

    def test_a_server_that_was_restarted_in_good_order_keeps_every_lease(
        self, opened: Opened
    ) -> None:
        with PostgreSQLServer() as server:
            a = opened(server.url)
            a.join("g", "a", record("1"))
            server.stop()
            server.start()
            until_it_works(a.heartbeat)
            assert a.read("g").records == {"a": record("1")}


class TestClock:
    def test_a_clock_that_is_set_forward_makes_the_memory_young_and_set_back_shortens_leases(
        self, opened: Opened
    ) -> None:
        with stepping(PostgreSQLServer) as server:
            a, b = opened(server.url), opened(server.url)
            a.join("g", "a", record("1"))
            b.join("g", "b", record("1"))
            grown_old(b)
            stepped = boottime()
            server.step_clock(3600)
            with pytest.raises(LeaseLost):
                a.heartbeat()
            newcomer = opened(server.url)
            assert newcomer.read("g").memory_age <= boottime() - stepped
            a.join("g", "a", record("1"))
            brief = until_it_works(lambda: opened(server.url, ttl=1.0))
            until_it_works(lambda: brief.join("g", "brief", record("1")))
            server.step_clock(0)
            # Nobody who died before the step lives for an hour.
            wait_until(lambda: "brief" not in newcomer.read("g").records)
            a.heartbeat()

    def test_a_newcomer_that_finds_all_leases_ended_at_once_doubts_the_memory(
        self, opened: Opened
    ) -> None:
        with stepping(PostgreSQLServer) as server:
            a = opened(server.url)
            a.join("g", "a", record("1"))
            grown_old(a)
            stepped = boottime()
            server.step_clock(3600)
            reading = opened(server.url).read("g")
            assert reading.records == {}
            assert reading.memory_age <= boottime() - stepped


class TestOrder:
    def test_a_write_that_was_held_up_never_lands_after_a_later_one(
        self, opened: Opened, server: PostgreSQLServer
    ) -> None:
        a = until_it_works(
            lambda: opened(f"{server.url}?table=held_up&timeout=1&application_name=held_up")
        )
        until_it_works(lambda: a.join("g", "a", record("1", turn=0)))

        def pids() -> list[int]:
            found = server.run(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'held_up'"
            )
            return [int(str(pid)) for (pid,) in found]

        wait_until(lambda: len(pids()) == 1, what="the end of what a call in vain has left")
        (pid,) = pids()
        os.kill(pid, signal.SIGSTOP)
        try:
            # The server's process has the write in its socket, and will read it when it wakes up.
            with pytest.raises(StoreUnavailable):
                a.publish("g", "a", record("1", turn=1))
        finally:
            os.kill(pid, signal.SIGCONT)
        until_it_works(lambda: a.publish("g", "a", record("1", turn=2)))
        wait_until(
            lambda: not Path(f"/proc/{pid}").exists(), what="the end of the server's process"
        )
        assert a.read("g").records == {"a": record("1", turn=2)}

    def test_a_lock_that_somebody_holds_costs_no_call_more_than_its_time(
        self, opened: Opened, server: PostgreSQLServer
    ) -> None:
        a = until_it_works(lambda: opened(f"{server.url}?table=locked&timeout=1&retries=0"))
        until_it_works(lambda: a.join("g", "a", record("1")))

        def hold() -> None:
            with contextlib.suppress(Exception):
                server.run("DO $$ BEGIN LOCK TABLE locked; PERFORM pg_sleep(60); END $$")

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            wait_until(
                lambda: server.run("SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock'")
            )
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                a.heartbeat()
            assert time.monotonic() - began < 30  # and not 60, for which the lock is held
        finally:
            server.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE 'DO $$ BEGIN LOCK%'"
            )
            holder.join()
        until_it_works(a.heartbeat)

    def test_a_fork_does_not_speak_on_its_parents_connection(
        self, opened: Opened, server: PostgreSQLServer
    ) -> None:
        a = opened(f"{server.url}?table=forked")
        a.join("g", "a", record("1"))
        child = os.fork()
        if not child:
            code = 1
            try:
                a.heartbeat()
            except StoreUnusable:
                a.close()
                a.open()  # a connection, and an identity, of its own
                a.join("g", "b", record("1"))
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        a.heartbeat()
        assert a.read("g").records.keys() == {"a", "b"}


class TestConnection:
    def test_a_driver_has_one_connection_and_hears_of_changes_on_it(
        self, opened: Opened, server: PostgreSQLServer
    ) -> None:
        url = f"{server.url}?table=one&poll=3600"
        a, b = opened(f"{url}&application_name=one_of_a"), opened(url)
        a.join("g", "a", record("1"))
        a.read("g")
        waited = threading.Thread(target=lambda: a.wait("g", 3600))
        waited.start()
        wait_until(
            lambda: server.run("SELECT FROM pg_stat_activity WHERE query LIKE '%min(expires)%'")
        )
        a.heartbeat()
        b.join("g", "b", record("1"))  # of which nothing but the announcement tells the waiter
        waited.join(60)
        assert not waited.is_alive()
        wait_until(
            lambda: (
                len(server.run("SELECT FROM pg_stat_activity WHERE application_name = 'one_of_a'"))
                == 1
            ),
            what="one connection",
        )

    def test_of_several_hosts_the_primary_is_the_store(self, opened: Opened) -> None:
        with Pair() as pair:
            standby_first = f"{pair.standby.address},{pair.primary.address}"
            url = f"postgresql://postgres:{PASSWORD}@{standby_first}/postgres"
            a = opened(url)
            a.join("g", "a", record("1"))
            a.heartbeat()
            with pytest.raises(StoreUnavailable, match=r"read-only|standby|hot standby"):
                opened(f"{pair.standby.url}?connect_timeout=5&timeout=5")

    def test_what_the_url_leaves_out_comes_from_the_service_and_the_password_file(
        self,
        opened: Opened,
        server: PostgreSQLServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        services, passwords = tmp_path / "services.conf", tmp_path / "pgpass"
        services.write_text(
            f"[groups]\nhost={LOOPBACK}\nport={server.port}\nuser=postgres\ndbname=postgres\n"
        )
        passwords.write_text(f"*:{server.port}:*:postgres:{PASSWORD}\n")
        passwords.chmod(0o600)
        monkeypatch.setenv("PGSERVICEFILE", str(services))
        opened(f"postgresql://?table=s1&service=groups&passfile={passwords}").read("g")
        monkeypatch.setenv("PGSERVICE", "groups")
        monkeypatch.setenv("PGPASSFILE", str(passwords))
        opened("postgresql://?table=s1").read("g")
        with pytest.raises(StoreUnusable, match="definition of service"):
            opened("postgresql://?service=none_such")

    def test_tls_checks_the_servers_name_and_authority(self, opened: Opened) -> None:
        with (
            Certificates() as ours,
            Certificates() as others,
            PostgreSQLServer(certificates=ours) as server,
        ):
            url = f"{server.url}?sslmode=verify-full&sslrootcert="
            a = opened(f"{url}{ours.ca}")
            a.join("g", "a", record("1"))
            a.heartbeat()
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                opened(f"{url}{others.ca}")
            with pytest.raises(StoreUnusable, match="no encryption"):
                opened(f"{server.url}?sslmode=disable")

    def test_pgbouncer_in_transaction_mode_is_refused_by_name(
        self, opened: Opened, server: PostgreSQLServer
    ) -> None:
        with PgBouncer(server, "transaction") as pooler:
            with pytest.raises(StoreUnusable, match="PgBouncer") as refused:
                opened(f"{pooler.url}?table=pooled")
            assert PASSWORD not in str(refused.value)

    def test_pgbouncer_in_session_mode_works_where_the_url_says_so(
        self, opened: Opened, server: PostgreSQLServer
    ) -> None:
        with PgBouncer(server, "session") as pooler:
            url = f"{pooler.url}?table=pooled&pooler=session"
            a, b = opened(url), opened(url)
            a.join("g", "a", record("1"))
            a.heartbeat()
            b.read("g")
            a.publish("g", "a", record("1", turn=1))
            b.wait("g", 60)
            assert b.read("g").records == {"a": record("1", turn=1)}


class TestRights:
    def test_a_role_that_may_only_read_looks_and_cannot_join(
        self, opened: Opened, server: PostgreSQLServer
    ) -> None:
        table = "looked_at"
        a = opened(f"{server.url}?table={table}")
        a.join("g", "a", record("1"))
        url = of_role(server, "watcher", f"GRANT SELECT ON {table} TO watcher")
        watcher = opened(f"{url}?table={table}")
        reading = watcher.read("g")
        assert reading.records == {"a": record("1")}
        assert reading.memory_age > 0
        watcher.wait("g", 0.01)
        for act in (watcher.join, watcher.publish):
            with pytest.raises(StoreUnusable, match="may look at groups"):
                act("g", "b", record("2"))

    def test_a_role_that_cannot_make_the_table_is_told_of_the_migration_that_does(
        self, opened: Opened, server: PostgreSQLServer
    ) -> None:
        url = of_role(server, "agent") + "?table=migrated"
        with pytest.raises(StoreUnusable, match=r"python -m hashring\.drivers\.postgresql"):
            opened(url)
        server.run(migration("migrated", members="agent"))
        a = opened(url)
        a.join("g", "a", record("1"))
        a.publish("g", "a", record("1", turn=1))
        a.heartbeat()
        assert a.read("g").records == {"a": record("1", turn=1)}
        a.leave("g", "a")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ((f":{PASSWORD}@", ":wr0ng-one@"), "password authentication failed"),
            (("/postgres", "/no_such_database"), "does not exist"),
        ],
    )
    def test_what_a_person_must_mend_is_said_at_once_and_without_the_secret(
        self, opened: Opened, server: PostgreSQLServer, change: tuple[str, str], told: str
    ) -> None:
        head, _, tail = server.url.rpartition("@")
        url = (
            f"{head}@{tail}".replace(*change, 1)
            if "@" in change[0]
            else (f"{head}@{tail.replace(*change)}")
        )
        with pytest.raises(StoreUnusable, match=told) as refused:
            opened(url)
        assert PASSWORD not in str(refused.value)
        assert "wr0ng-one" not in str(refused.value)
