"""The ZooKeeper driver on real servers: leases, freshness, logins, and what fails how."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from hashring.driver import Driver, load
from hashring.errors import (
    BadURL,
    HashringError,
    LeaseLost,
    MemberExists,
    StoreUnavailable,
    StoreUnusable,
)
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.changes import Follower
from tests.drivers.patience import until_it_works
from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, SilentServer, free_port, wait_until
from tests.servers.zookeeper import ZooKeeperServer, kazoo

Open = Callable[..., Driver]


def record(incarnation: str, **more: object) -> bytes:
    return json.dumps({"v": 1, "incarnation": incarnation, **more}).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer() as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Open]:
    """Open drivers, and close them when the test ends."""
    with contextlib.ExitStack() as stack:

        def connect(url: str, ttl: float = 2.0) -> Driver:
            if "timeout=" not in url:
                # A busy machine may need more for a call than the third of a short lease.
                url += f"{'&' if '?' in url else '?'}timeout=3"
            driver = load(url, ttl=ttl)
            driver.open()
            stack.callback(driver.close)
            return driver

        yield connect


@pytest.fixture
def place(server: ZooKeeperServer, request: pytest.FixtureRequest) -> str:
    """A URL with a path that no other test uses."""
    return f"{server.url}/{request.node.name[:60]}"


def members(driver: Driver, group: str = "group") -> set[str]:
    return set(driver.read(group).records)


def expire(server: ZooKeeperServer, driver: Driver) -> None:
    """End the session of a driver's lease as the server would, behind the driver's back."""
    owner = driver._owner
    client = KazooClient(server.address, client_id=(owner.id, owner._password))
    client.start(timeout=10)
    client.stop()
    client.close()


# -- leases


def test_a_member_is_an_ephemeral_node_that_carries_its_record_and_nothing_else(
    server: ZooKeeperServer, connect: Open
) -> None:
    driver = connect(f"{server.url}/a/b")
    driver.join("group", "a", record("1"))

    with kazoo(server) as client:
        data, stat = client.get("/a/b/group/a")
        assert data == record("1")
        assert stat.ephemeralOwner not in (0, driver._watching.session.id)
        driver.publish("group", "a", record("1", applied="v"))
        assert client.get("/a/b/group/a")[0] == record("1", applied="v")
        driver.leave("group", "a")
        assert client.exists("/a/b/group/a") is None


def test_only_a_heartbeat_renews_a_lease(place: str, connect: Open) -> None:
    idle, other = connect(place, ttl=1.0), connect(place, ttl=1.0)
    idle.join("group", "idle", record("1"))
    other.join("group", "other", record("2"))

    def gone() -> bool:
        other.heartbeat()
        idle.wait("group", 0.05)  # reads and waits are signs of life, but not of a heartbeat
        return members(idle) == {"other"}

    wait_until(gone, what="the end of a lease that nobody renewed")
    with pytest.raises(LeaseLost, match="'idle'"):
        idle.heartbeat()


def test_a_lease_lives_for_its_ttl_after_each_heartbeat(place: str, connect: Open) -> None:
    driver, observer = connect(place, ttl=1.5), connect(place)
    driver.join("group", "a", record("1"))
    began = time.monotonic()
    while time.monotonic() < began + 2.0:  # well past the lease that join began
        beat = time.monotonic()
        driver.heartbeat()
        assert members(observer) == {"a"}

    wait_until(lambda: not members(observer), what="the end of the lease")

    assert time.monotonic() - beat > 1.5


def test_a_driver_without_a_lease_has_nothing_to_renew(place: str, connect: Open) -> None:
    driver = connect(place)
    driver.heartbeat()
    driver.join("group", "a", record("1"))
    driver.leave("group", "a")
    driver.heartbeat()


def test_a_session_that_the_server_ended_is_a_lost_lease_and_can_be_begun_again(
    server: ZooKeeperServer, place: str, connect: Open
) -> None:
    driver = connect(place)
    driver.join("group", "a", record("1"))
    expire(server, driver)

    with pytest.raises(LeaseLost):
        driver.publish("group", "a", record("1"))
    for _ in range(2):
        with pytest.raises(LeaseLost):
            driver.heartbeat()
    driver.join("group", "a", record("1"))
    driver.heartbeat()
    assert members(driver) == {"a"}


def test_a_member_whose_lease_ended_cannot_touch_its_successor(
    server: ZooKeeperServer, place: str, connect: Open
) -> None:
    old, new = connect(place), connect(place)
    old.join("group", "a", record("old"))
    expire(server, old)
    new.join("group", "a", record("new"))  # the node has the version that the old one expects

    with pytest.raises(LeaseLost):
        old.publish("group", "a", record("old", applied="v"))
    old.leave("group", "a")
    with pytest.raises(MemberExists, match="another incarnation"):
        old.join("group", "a", record("old"))

    assert new.read("group").records == {"a": record("new")}
    new.heartbeat()


def test_a_member_that_an_operator_deleted_has_lost_its_lease(
    server: ZooKeeperServer, connect: Open
) -> None:
    driver = connect(f"{server.url}/deleted")
    driver.join("group", "a", record("1"))
    with kazoo(server) as client:
        client.delete("/deleted/group/a")

    with pytest.raises(LeaseLost):
        driver.heartbeat()
    with pytest.raises(LeaseLost):
        driver.publish("group", "a", record("1"))


def test_one_driver_in_two_groups_leaves_one_and_keeps_the_other(place: str, connect: Open) -> None:
    driver = connect(place)
    driver.join("one", "a", record("1"))
    driver.join("two", "a", record("1"))

    driver.leave("one", "a")
    driver.leave("one", "a")

    driver.heartbeat()
    assert members(driver, "one") == set()
    assert members(driver, "two") == {"a"}


def test_after_kill_9_a_member_is_gone_soon_after_its_ttl(place: str, connect: Open) -> None:
    program = (
        "import sys, json, hashring.driver as d\n"
        "driver = d.load(sys.argv[1], ttl=2.0); driver.open()\n"
        "driver.join('group', 'victim', json.dumps({'incarnation': '1'}).encode())\n"
        "while True:\n    driver.heartbeat(); print('beat', flush=True)\n"
    )
    observer = connect(place)
    with subprocess.Popen([sys.executable, "-c", program, place], stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        for _ in range(20):
            assert victim.stdout.readline() == b"beat\n"
        victim.kill()

    with pytest.raises(MemberExists):
        observer.join("group", "victim", record("2"))
    wait_until(lambda: not members(observer), within=10.0, what="the end of the victim's lease")
    observer.join("group", "victim", record("2"))


# -- outcomes that are unknown


def test_a_write_that_was_given_up_for_lost_never_lands_after_a_later_one(connect: Open) -> None:
    with ZooKeeperServer() as server:
        driver = connect(f"{server.url}/?timeout=0.3", ttl=20.0)
        until_it_works(lambda: driver.join("group", "a", record("1")))
        server.pause()  # what is sent now is read when the server runs on
        for number in range(3):
            with pytest.raises(StoreUnavailable, match="publishing"):
                driver.publish("group", "a", record("1", late=number))
        server.resume()

        until_it_works(lambda: driver.publish("group", "a", record("1", final=True)))

        with kazoo(server) as client:  # whatever is still in the server's hands passes before this
            client.create("/after")
            assert client.get("/hashring/group/a")[0] == record("1", final=True)


def test_a_join_whose_answer_was_lost_is_joined_by_asking_again(connect: Open) -> None:
    with ZooKeeperServer() as server:
        driver = connect(f"{server.url}/?timeout=0.3", ttl=20.0)
        until_it_works(lambda: driver.join("group", "b", record("b")))
        server.pause()
        with pytest.raises(StoreUnavailable):
            driver.join("group", "a", record("1"))
        server.resume()
        wait_until(lambda: "a" in members(connect(server.url)) or joined(driver))

        # A new incarnation of the same process.
        until_it_works(lambda: driver.join("group", "a", record("2")))

        assert until_it_works(lambda: driver.read("group")).records["a"] == record("2")


def joined(driver: Driver) -> bool:
    """Join under the first incarnation, as a caller does who was told nothing."""
    with contextlib.suppress(StoreUnavailable):
        driver.join("group", "a", record("1"))
        driver.leave("group", "a")
        return True
    return False


def test_a_server_that_is_silent_is_sent_more_until_it_answers(
    server: ZooKeeperServer, connect: Open
) -> None:
    # One of an ensemble can hold an answer back until it hears from a client: ZOOKEEPER-4537.
    with FaultProxy(LOOPBACK, server.port) as proxy:
        driver = connect(f"zookeeper://{LOOPBACK}:{proxy.address[1]}/silent?timeout=30", ttl=60.0)
        driver.join("group", "a", record("1"))
        proxy.delay(down=4.0)
        before = packets(server)

        driver.publish("group", "a", record("1", turn=1))

        assert packets(server) - before >= 4  # mntr itself, the publish, and two pings at least
        # Answers to pings come late, too, and are taken for no others.
        proxy.restore()
        for turn in range(2, 6):
            driver.publish("group", "a", record("1", turn=turn))
            assert driver.read("group").records == {"a": record("1", turn=turn)}
        driver.heartbeat()


# -- reading and waiting


def test_a_change_in_a_group_of_200_costs_its_readers_a_few_requests(connect: Open) -> None:
    with ZooKeeperServer() as server:
        crowd, one, reader = (connect(server.url, ttl=30.0) for _ in range(3))
        for number in range(200):
            crowd.join("group", f"member-{number}", record("1"))
        one.join("group", "one", record("1"))
        follower = Follower(reader, "group")
        assert follower.read().size == 201
        packets(server)
        counts = [packets(server)]

        for number in range(10):
            one.publish("group", "one", record("1", applied=number))
            follower.read()
            assert follower.records["one"] == record("1", applied=number)
            counts.append(packets(server))

        # The publish, a sync and a get of the reader, and mntr itself. More where the machine
        # stood still meanwhile, and made the driver ask after an answer: so, in most rounds.
        costs = [after - before for before, after in itertools.pairwise(counts)]
        assert statistics.median(costs) <= 4


def packets(server: ZooKeeperServer) -> int:
    answer = dict(line.split("\t", 1) for line in server.ask("mntr").splitlines())
    return int(answer["zk_packets_received"])


def test_wait_returns_for_a_join_a_publish_a_leave_and_an_expiry(
    server: ZooKeeperServer, place: str, connect: Open
) -> None:
    driver, observer = connect(place), connect(place)
    assert members(observer) == set()  # not even the group is there

    def change_seen(change: Callable[[], None]) -> bool:
        # Far longer than any lease in this test: a wait that missed the change fails it by time.
        waiting = threading.Thread(target=observer.wait, args=("group", 200.0), daemon=True)
        waiting.start()
        change()
        waiting.join(20.0)
        return not waiting.is_alive()

    assert change_seen(lambda: driver.join("group", "a", record("1")))
    assert members(observer) == {"a"}
    assert change_seen(lambda: driver.publish("group", "a", record("1", x=1)))
    assert observer.read("group").records == {"a": record("1", x=1)}
    assert change_seen(lambda: driver.leave("group", "a"))
    assert members(observer) == set()
    assert change_seen(lambda: driver.join("group", "a", record("1")))
    assert members(observer) == {"a"}
    assert change_seen(lambda: expire(server, driver))
    assert members(observer) == set()


def test_a_change_between_read_and_wait_is_not_missed(place: str, connect: Open) -> None:
    driver, observer = connect(place), connect(place)
    driver.join("group", "a", record("1"))
    members(observer)
    driver.publish("group", "a", record("1", x=1))

    observer.wait("group", 200.0)  # pytest's own time limit ends a wait that sleeps through

    assert observer.read("group").records == {"a": record("1", x=1)}


def test_a_heartbeat_wakes_nobody(place: str, connect: Open) -> None:
    driver, observer = connect(place), connect(place)
    driver.join("group", "a", record("1"))
    members(observer)
    waited = threading.Thread(target=observer.wait, args=("group", 1.0))
    waited.start()
    beats = 0
    while waited.is_alive():
        driver.heartbeat()
        beats += 1
    assert beats > 5


def test_a_reader_keeps_its_watches_through_a_long_wait(place: str, connect: Open) -> None:
    driver, observer = connect(place, ttl=20.0), connect(place, ttl=0.6)
    driver.join("group", "a", record("1"))
    members(observer)
    session = observer._watching.session.id

    observer.wait("group", 2.0)  # more than three times the watching session's timeout

    assert members(observer) == {"a"}
    assert observer._watching.session.id == session


def test_a_process_with_a_thousand_open_files_waits_as_any_other(
    place: str, connect: Open, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as files:
        while files.enter_context((tmp_path / "file").open("w")).fileno() < 1024:
            pass
        driver, observer = connect(place), connect(place)
        driver.join("group", "a", record("1"))
        members(observer)
        observer.wait("group", 0.1)
        driver.publish("group", "a", record("1", x=1))
        observer.wait("group", 200.0)  # as above
        assert observer.read("group").records == {"a": record("1", x=1)}


def test_close_ends_a_wait_in_another_thread(place: str, connect: Open) -> None:
    driver = connect(place)
    members(driver)
    waiting = threading.Thread(target=driver.wait, args=("group", 200.0), daemon=True)
    waiting.start()

    driver.close()
    driver.close()

    waiting.join(20.0)
    assert not waiting.is_alive()
    with pytest.raises(StoreUnavailable, match="not open"):
        driver.read("group")


def test_a_server_that_restarts_keeps_leases_and_readers_find_it_again(connect: Open) -> None:
    with ZooKeeperServer() as server:
        driver = connect(f"{server.url}/?retries=0", ttl=20.0)
        driver.join("group", "a", record("1"))
        driver.publish("group", "a", record("1", x=1))
        members(driver)
        server.kill()
        for call in (driver.heartbeat, lambda: driver.read("group")):
            with pytest.raises(StoreUnavailable):
                call()
        driver.wait("group", 0.1)
        server.start()

        driver.heartbeat()

        reading = driver.read("group")
        assert reading.records == {"a": record("1", x=1)}


# -- places


def test_paths_keep_groups_apart(server: ZooKeeperServer, connect: Open) -> None:
    one, two = connect(f"{server.url}/apart/one"), connect(f"{server.url}/apart/two/")
    one.join("group", "a", record("1"))
    two.join("group", "a", record("2"))
    assert one.read("group").records == {"a": record("1")}
    assert two.read("group").records == {"a": record("2")}


def test_parents_that_were_tidied_away_are_made_again(
    server: ZooKeeperServer, connect: Open
) -> None:
    driver = connect(f"{server.url}/tidy/deep")
    driver.join("group", "a", record("1"))
    driver.leave("group", "a")
    assert members(driver) == set()
    with kazoo(server) as client:
        client.delete("/tidy", recursive=True)

    driver.join("group", "a", record("1"))

    assert members(driver) == {"a"}


def test_a_group_that_everybody_left_is_removed_by_the_server(connect: Open) -> None:
    with ZooKeeperServer(properties={"znode.container.checkIntervalMs": "100"}) as server:
        driver = connect(server.url)
        driver.join("group", "a", record("1"))
        driver.leave("group", "a")
        with kazoo(server) as client:
            wait_until(
                lambda: "group" not in client.get_children("/hashring"), what="the group's end"
            )
            assert client.get_children("/hashring") in ([], ["+history"])
        assert members(driver) == set()
        driver.join("group", "a", record("1"))
        assert members(driver) == {"a"}


@pytest.mark.parametrize("name", [".", "..", "%2E", "a/b", "zookeeper", "ä\u2028\ue000\x01 "])
def test_any_id_is_a_legal_node_name(place: str, connect: Open, name: str) -> None:
    driver = connect(place)
    driver.join(name, name, record("1"))
    driver.heartbeat()
    assert driver.read(name).records == {name: record("1")}


@pytest.mark.parametrize("path", ["/a//b", "/a/../b", "/zookeeper", "/."])
def test_a_path_that_zookeeper_forbids_is_refused(path: str) -> None:
    with pytest.raises(BadURL, match="path"):
        load(f"zookeeper://localhost{path}", ttl=1.0)


@pytest.mark.parametrize("option", ["acl=everyone", "acl=digest:me:x", "sasl=NONE", "tls=perhaps"])
def test_an_option_that_makes_no_sense_is_refused(option: str) -> None:
    with pytest.raises(BadURL, match=option.partition("=")[0]):
        load(f"zookeeper://localhost?{option}", ttl=1.0)


def test_kazoo_is_another_name_for_the_driver(server: ZooKeeperServer, connect: Open) -> None:
    driver = connect(f"kazoo://{server.address}/named")
    driver.join("group", "a", record("1"))
    assert members(connect(f"{server.url}/named")) == {"a"}


# -- the length of sessions


def test_servers_that_grant_only_longer_sessions_are_named_in_a_warning(
    connect: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        ZooKeeperServer(min_session=3000) as server,
        caplog.at_level(logging.WARNING, "hashring.drivers.zookeeper"),
    ):
        connect(server.url, ttl=1.0).heartbeat()
    assert "minSessionTimeout" in caplog.text


def test_servers_that_grant_only_shorter_sessions_are_refused(connect: Open) -> None:
    with (
        ZooKeeperServer(max_session=2000) as server,
        pytest.raises(StoreUnusable, match="maxSessionTimeout"),
    ):
        connect(server.url, ttl=5.0)


# -- logins and encryption


def test_with_a_password_only_the_same_user_reads_and_writes(
    server: ZooKeeperServer, connect: Open
) -> None:
    path = f"{server.address}/digest"
    driver = connect(f"zookeeper://agent:s3cret@{path}")
    driver.join("group", "a", record("1"))
    assert members(connect(f"zookeeper://agent:s3cret@{path}")) == {"a"}

    for stranger in (f"zookeeper://agent:wr0ng@{path}", f"zookeeper://{path}"):
        with pytest.raises(StoreUnusable, match="may not") as caught:
            connect(stranger)
        assert "wr0ng" not in str(caught.value)
    with kazoo(server) as client, pytest.raises(NoAuthError):
        client.get_children("/digest")


def test_an_acl_of_ones_own_is_set_on_every_node(server: ZooKeeperServer, connect: Open) -> None:
    driver = connect(
        f"zookeeper://agent:s3cret@{server.address}/readable?acl=creator-read&timeout=3"
    )
    driver.join("group", "a", record("1"))
    assert members(connect(f"zookeeper://{server.address}/readable")) == {"a"}
    with pytest.raises(StoreUnusable, match="may not"):
        connect(f"zookeeper://{server.address}/readable").join("group", "b", record("2"))

    listed = connect(f"{server.url}/listed?acl=world:anyone:cdrwa,ip:127.0.0.1:r")
    listed.join("group", "a", record("1"))
    with kazoo(server) as client:
        acls, _ = client.get_acls("/listed/group/a")
    assert {(acl.id.scheme, acl.perms) for acl in acls} == {("world", 31), ("ip", 1)}


def test_a_sasl_login_is_tried_on_every_connection(connect: Open) -> None:
    with ZooKeeperServer(sasl={"agent": "s3cret"}) as server:
        driver = connect(f"zookeeper://agent:s3cret@{server.address}?sasl=DIGEST-MD5")
        driver.join("group", "a", record("1"))
        driver.heartbeat()
        driver.publish("group", "a", record("1", x=1))
        assert driver.read("group").records == {"a": record("1", x=1)}
        login = {"mechanism": "DIGEST-MD5", "username": "agent", "password": "s3cret"}
        with kazoo(server, sasl_options=login) as client:
            ((acl,), _) = client.get_acls("/hashring/group/a")
        assert (acl.id.scheme, acl.id.id) == ("sasl", "agent")

        with pytest.raises(StoreUnusable, match="SASL") as caught:
            connect(f"zookeeper://agent:wr0ng@{server.address}?sasl=DIGEST-MD5")
        assert "wr0ng" not in str(caught.value)


def test_tls_with_certificates_on_both_sides(connect: Open) -> None:
    with Certificates("localhost") as certificates, ZooKeeperServer(certificates=certificates) as s:
        port, query = s.secure_port, f"tls=true&{certificates.query}&timeout=5&connect_timeout=5"
        driver = connect(f"zookeeper://localhost:{port}?{query}", ttl=20.0)
        driver.join("group", "a", record("1"))
        driver.heartbeat()
        assert members(driver) == {"a"}
        driver.wait("group", 0.1)

        with pytest.raises(StoreUnusable, match=r"127\.0\.0\.1"):  # not the name it is for
            connect(f"zookeeper://127.0.0.1:{port}?{query}", ttl=20.0)
        connect(f"zookeeper://127.0.0.1:{port}?{query}&check_hostname=false", ttl=20.0)
        with pytest.raises(StoreUnusable, match="certificate"):  # an authority we do not know
            connect(f"zookeeper://localhost:{port}?tls=true", ttl=20.0)
        for nonsense in (
            f"zookeeper://localhost:{port}?timeout=1",
            f"zookeeper://localhost:{s.port}?{query.replace('=5', '=1')}",
        ):
            with pytest.raises(StoreUnavailable):
                connect(nonsense)


def test_tls_files_that_are_not_there_are_named(connect: Open) -> None:
    with pytest.raises(BadURL, match="nowhere"):
        connect("zookeeper://localhost?tls=true&ca=/nowhere/ca.pem")


# -- what fails, how soon, and what is left behind


@pytest.mark.parametrize("wrong", ["port", "silence", "name", "protocol"])
def test_a_server_that_is_none_is_an_error_in_time_without_secrets_and_threads(
    wrong: str, connect: Open
) -> None:
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        if wrong == "port":
            address = f"127.0.0.1:{free_port()}"
        elif wrong == "silence":
            address = f"127.0.0.1:{stack.enter_context(SilentServer()).port}"
        elif wrong == "name":
            address = "no-such-host.invalid"
        else:
            chatter = stack.enter_context(contextlib.closing(Chatter()))
            address = f"127.0.0.1:{chatter.port}"
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=address) as caught:
            connect(f"zookeeper://agent:s3cret@{address}?timeout=0.5&connect_timeout=0.4")
        assert time.monotonic() - began < 10.0  # far from the hang that this is about
        assert "s3cret" not in str(caught.value) + repr(caught.value)
    wait_until(lambda: threading.active_count() == threads, what="the end of the test's threads")


class Chatter:
    """A server that answers whatever it hears like a web server."""

    def __init__(self) -> None:
        import socketserver

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(1024)
                self.request.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        self._server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize(
    ("ttl", "query", "timeout"), [(3.0, "", 1.0), (60.0, "", 3.0), (3.0, "?timeout=2", 1.0)]
)
def test_a_call_may_take_a_third_of_the_lease_whatever_the_url_says(
    ttl: float, query: str, timeout: float
) -> None:
    assert load(f"zookeeper://localhost{query}", ttl=ttl).settings["timeout"] == timeout


def test_a_dead_server_in_the_list_is_passed_over(server: ZooKeeperServer, connect: Open) -> None:
    with SilentServer() as silent:
        hosts = f"127.0.0.1:{silent.port},127.0.0.1:{free_port()},{server.address}"
        driver = connect(f"zookeeper://{hosts}/list?timeout=3")
        driver.join("group", "a", record("1"))
        for _ in range(20):  # the server that answered is tried first from then on
            driver.heartbeat()
        assert members(driver) == {"a"}


def test_a_fork_is_told_to_open_a_driver_of_its_own(place: str, connect: Open) -> None:
    driver = connect(place)
    driver.join("group", "a", record("1"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            driver.heartbeat()
        except StoreUnusable:
            driver.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    driver.heartbeat()
    assert members(driver) == {"a"}


def test_a_missing_client_library_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['kazoo.exceptions'] = None\n"
        "from hashring.driver import load\n"
        "from hashring.errors import MissingDependency\n"
        "try: load('zookeeper://localhost', ttl=1.0)\n"
        "except MissingDependency as error: assert 'hashring-ha[zookeeper]' in str(error)\n"
        "else: sys.exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_record_that_is_no_member_of_ours_is_not_taken_over(
    server: ZooKeeperServer, connect: Open
) -> None:
    driver = connect(f"{server.url}/strangers")
    with kazoo(server) as client:
        client.create("/strangers/group/a", b"not a lease", makepath=True)
    with pytest.raises(HashringError, match="persistent"):
        driver.join("group", "a", record("1"))
