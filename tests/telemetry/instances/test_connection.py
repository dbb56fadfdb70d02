"""The one connection to a hypervisor: shared, hanging, restarted, away, and its thread."""

import re
import subprocess
import sys
import threading

import libvirt
import pytest

from hashring.errors import HashringError
from hashring.telemetry.errors import HypervisorUnavailable
from hashring.telemetry.sources.libvirt import hypervisor as hypervisor_module
from hashring.telemetry.sources.libvirt.hypervisor import Hypervisor
from hashring.telemetry.sources.libvirt.instances import (
    InstanceDiskPollster,
    LibvirtDiscovery,
)
from hashring.telemetry.sources.libvirt.link import Link
from tests.servers.libvirt import (
    DEFAULT_ID,
    LibvirtServer,
    instance_id,
    write_domains,
)
from tests.telemetry.instances.conftest import POLLSTERS, instance, settings


def connections():
    return {thread for thread in threading.enumerate() if thread.name == "libvirt-connection"}


def domains(link):
    """How many there are; ``None`` where a busy machine did not answer in so short a time."""
    try:
        return link.ask(lambda connection: connection.numOfDomains())
    except HypervisorUnavailable:
        return None


def test_a_question_that_hangs_costs_those_after_it_one_timeout(until):
    before = connections()
    link = Link("test:///default", timeout=0.3)
    answer, asked = threading.Event(), threading.Event()

    def hang(_connection):
        asked.set()
        answer.wait()

    while not asked.is_set():  # a busy machine may give it up before it is put
        with pytest.raises(HypervisorUnavailable, match=r"not answered within 0\.3 s"):
            link.ask(hang)

    assert until(lambda: domains(link), "it is answered") == 1  # on another connection
    until(lambda: len(connections() - before) == 2, "there are two")
    answer.set()
    link.close()
    until(lambda: connections() <= before, "both threads have ended")


def test_a_question_behind_one_that_hangs_is_given_up_too_and_the_next_is_answered(until):
    link = Link("test:///default", timeout=0.3)
    answer = threading.Event()

    def is_given_up():
        asked = threading.Event()

        def hang(_connection):
            asked.set()
            answer.wait()

        def first():
            while not asked.is_set():
                with pytest.raises(HypervisorUnavailable):
                    link.ask(hang)

        waiting = threading.Thread(target=first)
        waiting.start()
        asked.wait(60)
        found = domains(link)
        waiting.join()  # before there is an answer: it must have given up, however late it looks
        return found is None

    until(is_given_up, "one is asked before the first is given up")
    assert until(lambda: domains(link), "it is answered") == 1
    answer.set()
    link.close()


class TestADaemon:
    @pytest.fixture
    def server(self):
        with LibvirtServer() as server:
            yield server

    def test_is_polled_as_the_hypervisor_itself(self, server, poll, tmp_path):
        write_domains(tmp_path / "domains.xml", 3)
        uri = server.uri(tmp_path / "domains.xml")

        assert len(LibvirtDiscovery(settings(uri)).discover()) == 3
        there = poll(uri, instance_id(3))
        here = poll(f"test://{tmp_path / 'domains.xml'}", instance_id(3))
        assert [(found.meter, found.resource_id) for found in there] == [
            (found.meter, found.resource_id) for found in here
        ]

    def test_one_connection_serves_the_discovery_and_all_pollsters(self, server, monkeypatch):
        opened = []
        really = libvirt.openReadOnly
        monkeypatch.setattr(libvirt, "openReadOnly", lambda uri: opened.append(uri) or really(uri))
        discovery = LibvirtDiscovery(settings(server.uri()))
        pollsters = [kind(settings(server.uri())) for kind in POLLSTERS]

        threads = [threading.Thread(target=pollster.observe) for pollster in pollsters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        discovery.discover()
        for pollster in pollsters:
            list(pollster.poll(instance(DEFAULT_ID)))
            pollster.close()

        assert opened == [server.uri()]

    def test_that_is_restarted_is_connected_to_again(self, server, poll, until):
        before = poll(server.uri(), DEFAULT_ID)
        server.kill()
        server.start()

        def polled():
            try:
                return poll(server.uri(), DEFAULT_ID)
            except HashringError:  # the first question may be the one that notices
                return None

        after = until(polled, "the daemon is polled again")
        assert {found.meter for found in after} == {found.meter for found in before}

    def test_that_is_away_is_said_to_be(self, server, poll):
        poll(server.uri(), DEFAULT_ID)
        server.stop()

        with pytest.raises(HypervisorUnavailable, match=re.escape(repr(server.uri()))):
            poll(server.uri(), DEFAULT_ID)

    def test_that_hangs_costs_a_call_its_time_and_no_more(self, server, until):
        hypervisor = Hypervisor(server.uri(), timeout=2.0)

        def listed():
            try:
                return hypervisor.instances()
            except HypervisorUnavailable:
                return None

        until(listed, "the daemon answers")
        server.pause()
        with pytest.raises(HypervisorUnavailable):
            hypervisor.instances()
        server.resume()

        assert DEFAULT_ID in until(listed, "the daemon answers again")
        hypervisor.close()

    def test_that_hangs_when_it_is_connected_to_holds_nobody_up(self, server, until):
        server.pause()
        before = connections()
        hypervisor = Hypervisor(server.uri(), timeout=0.5)
        for _ in range(3):
            with pytest.raises(HypervisorUnavailable, match=r"not answered within 0\.5 s"):
                hypervisor.instances()
        assert len(connections() - before) == 1  # all wait for the same attempt
        server.resume()

        def listed():
            try:
                return hypervisor.instances()
            except HypervisorUnavailable:
                return None

        assert DEFAULT_ID in until(listed, "the daemon answers")
        hypervisor.close()
        until(lambda: connections() <= before, "the thread has ended")

    def test_that_dies_under_many_threads_fails_their_polls_and_nothing_else(self, server, until):
        # libvirt's client before 10.4 crashed here, were its connection used by two at once.
        pollster = InstanceDiskPollster(settings(server.uri(), poll_timeout=5.0))
        stopping, polled, strange = threading.Event(), [], []

        def work():
            while not stopping.is_set():
                try:
                    polled.append(len(list(pollster.poll(instance(DEFAULT_ID)))))
                except HypervisorUnavailable:
                    pass
                except Exception as error:
                    strange.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            before = len(polled)
            until(lambda before=before: len(polled) > before + 50, "they are polling")
            server.kill()
            server.start()
        stopping.set()
        for thread in threads:
            thread.join()
        pollster.close()

        assert not strange
        assert set(polled) == {7}  # a poll tells all or nothing

    def test_the_last_pollster_to_close_closes_the_connection(self, server, until):
        before = connections()
        pollsters = [kind(settings(server.uri())) for kind in POLLSTERS]
        for pollster in pollsters:
            pollster.observe()
        for pollster in pollsters[:-1]:
            pollster.close()
        pollsters[-1].observe()  # still open for who is left
        assert len(connections() - before) == 1

        pollsters[-1].close()

        until(lambda: connections() <= before, "its thread has ended")

    def test_a_forgotten_hypervisor_closes_itself(self, server, until):
        before = connections()
        discovery = LibvirtDiscovery(settings(server.uri()))
        discovery.discover()
        assert len(connections() - before) == 1

        del discovery

        until(lambda: connections() <= before, "its thread has ended")

    def test_no_thread_outlives_the_last_connection(self, server):
        program = f"""
import threading, time
from hashring.telemetry.sources.libvirt.hypervisor import Hypervisor
for _ in range(3):
    hypervisor = Hypervisor({server.uri()!r}, timeout=60.0)
    hypervisor.instances()
    assert len(threading.enumerate()) == 3
    hypervisor.close()
    deadline = time.monotonic() + 60
    while len(threading.enumerate()) > 1:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False
        )

        assert done.returncode == 0, done.stderr
        assert done.stderr == ""

    def test_can_be_asked_again_after_it_was_closed(self, server):
        hypervisor = Hypervisor(server.uri(), timeout=60.0)
        hypervisor.instances()
        hypervisor.close()

        assert hypervisor.instances() == {DEFAULT_ID: "test"}
        hypervisor.close()


def test_hypervisors_are_shared_by_uri_and_forgotten_with_their_last_user():
    one = hypervisor_module.shared("test:///default", 3.0)

    assert hypervisor_module.shared("test:///default", 3.0) is one
    assert hypervisor_module.shared("test:///default", 4.0) is not one
