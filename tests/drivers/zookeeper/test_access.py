"""Which ZooKeeper URLs, paths and logins serve; what fails, how soon, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time

import pytest
from kazoo.exceptions import NoAuthError

from hashring.driver import load
from hashring.errors import (
    BadURL,
    HashringError,
    StoreUnavailable,
    StoreUnusable,
)
from hashring.testing.suite.base import record
from tests.drivers.opening import Opened
from tests.drivers.zookeeper.conftest import members
from tests.servers.certificates import Certificates
from tests.servers.process import SilentServer, free_port, wait_until
from tests.servers.zookeeper import ZooKeeperServer, kazoo

# -- places


def test_paths_keep_groups_apart(server: ZooKeeperServer, connect: Opened) -> None:
    one, two = connect(f"{server.url}/apart/one"), connect(f"{server.url}/apart/two/")
    one.join("group", "a", record("1"))
    two.join("group", "a", record("2"))
    assert one.read("group").records == {"a": record("1")}
    assert two.read("group").records == {"a": record("2")}


def test_parents_that_were_tidied_away_are_made_again(
    server: ZooKeeperServer, connect: Opened
) -> None:
    driver = connect(f"{server.url}/tidy/deep")
    driver.join("group", "a", record("1"))
    driver.leave("group", "a")
    assert members(driver) == set()
    with kazoo(server) as client:
        client.delete("/tidy", recursive=True)

    driver.join("group", "a", record("1"))

    assert members(driver) == {"a"}


def test_a_group_that_everybody_left_is_removed_by_the_server(connect: Opened) -> None:
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
def test_any_id_is_a_legal_node_name(place: str, connect: Opened, name: str) -> None:
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


def test_kazoo_is_another_name_for_the_driver(server: ZooKeeperServer, connect: Opened) -> None:
    driver = connect(f"kazoo://{server.address}/named")
    driver.join("group", "a", record("1"))
    assert members(connect(f"{server.url}/named")) == {"a"}


# -- logins and encryption


def test_with_a_password_only_the_same_user_reads_and_writes(
    server: ZooKeeperServer, connect: Opened
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


def test_an_acl_of_ones_own_is_set_on_every_node(server: ZooKeeperServer, connect: Opened) -> None:
    driver = connect(f"zookeeper://agent:s3cret@{server.address}/readable?acl=creator-read")
    driver.join("group", "a", record("1"))
    assert members(connect(f"zookeeper://{server.address}/readable")) == {"a"}
    with pytest.raises(StoreUnusable, match="may not"):
        connect(f"zookeeper://{server.address}/readable").join("group", "b", record("2"))

    listed = connect(f"{server.url}/listed?acl=world:anyone:cdrwa,ip:127.0.0.1:r")
    listed.join("group", "a", record("1"))
    with kazoo(server) as client:
        acls, _ = client.get_acls("/listed/group/a")
    assert {(acl.id.scheme, acl.perms) for acl in acls} == {("world", 31), ("ip", 1)}


def test_a_sasl_login_is_tried_on_every_connection(connect: Opened) -> None:
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


def test_tls_with_certificates_on_both_sides(connect: Opened) -> None:
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


def test_tls_files_that_are_not_there_are_named(connect: Opened) -> None:
    with pytest.raises(BadURL, match="nowhere"):
        connect("zookeeper://localhost?tls=true&ca=/nowhere/ca.pem")


# -- what fails


@pytest.mark.parametrize("wrong", ["port", "silence", "name", "protocol"])
def test_a_server_that_is_none_is_an_error_in_time_without_secrets_and_threads(
    wrong: str, connect: Opened
) -> None:
    before = set(threading.enumerate())
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
        assert time.monotonic() - began < 60.0  # far from the hang that this is about
        assert "s3cret" not in str(caught.value) + repr(caught.value)
    wait_until(
        lambda: not set(threading.enumerate()) - before, what="the end of the test's threads"
    )


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


def test_a_dead_server_in_the_list_is_passed_over(server: ZooKeeperServer, connect: Opened) -> None:
    with SilentServer() as silent:
        hosts = f"127.0.0.1:{silent.port},127.0.0.1:{free_port()},{server.address}"
        driver = connect(f"zookeeper://{hosts}/list?timeout=3")
        driver.join("group", "a", record("1"))
        for _ in range(20):  # the server that answered is tried first from then on
            driver.heartbeat()
        assert members(driver) == {"a"}


def test_a_fork_is_told_to_open_a_driver_of_its_own(place: str, connect: Opened) -> None:
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
    subprocess.run([sys.executable, "-c", program], check=True, timeout=150)


def test_a_record_that_is_no_member_of_ours_is_not_taken_over(
    server: ZooKeeperServer, connect: Opened
) -> None:
    driver = connect(f"{server.url}/strangers")
    with kazoo(server) as client:
        client.create("/strangers/group/a", b"not a lease", makepath=True)
    with pytest.raises(HashringError, match="persistent"):
        driver.join("group", "a", record("1"))
