import re
import socket

import msgpack
import pytest

from hashring.errors import BadURL
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.publishers.udp import UDPPublisher
from tests.servers.process import free_port
from tests.telemetry.publishing import SETTINGS, sample, samples


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request):
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as found:
        found.bind((request.param, 0))
        found.settimeout(60)
        yield found


@pytest.fixture
def publisher(listener):
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    found = UDPPublisher(f"udp://{shown}:{port}", SETTINGS)
    yield found
    found.close()


def received(listener):
    return msgpack.unpackb(listener.recv(1 << 16))


def test_a_sample_is_one_datagram_in_the_form_that_ceilometer_sends(listener, publisher):
    one = sample(
        12,
        meter=Meter("disk.device.read.bytes", MeterType.CUMULATIVE, "B"),
        resource_id="instance-1-vda",
        metadata={"display_name": "web", "flavor": {"vcpus": 2}},
        project_id="p1",
        user_id="u1",
        source="disks",
    )

    publisher.publish([one])

    assert received(listener) == {
        "source": "disks",
        "counter_name": "disk.device.read.bytes",
        "counter_type": "cumulative",
        "counter_unit": "B",
        "counter_volume": 12,
        "user_id": "u1",
        "project_id": "p1",
        "resource_id": "instance-1-vda",
        "timestamp": "1970-01-01T00:10:00.250000+00:00",
        "resource_metadata": {"display_name": "web", "flavor": {"vcpus": 2}},
        "message_id": one.id,
        "message_signature": "",
        "id": one.id,
        "token": ["v", "i", 10],
        "window": 10,
        "interval": 60.0,
        "member": "a",
    }


def test_each_sample_has_a_datagram_of_its_own_in_order(listener, publisher):
    publisher.publish(samples(20))

    assert [received(listener)["counter_volume"] for _ in range(20)] == list(range(20))


def test_a_sample_larger_than_a_datagram_is_set_aside_and_the_others_go_out(
    listener, publisher, caplog
):
    publisher.publish([sample(1), sample(2, metadata={"text": "x" * 70_000}), sample(3)])

    assert [received(listener)["counter_volume"] for _ in range(2)] == [1, 3]
    assert publisher.refused == 1
    assert "it is larger than a datagram can be" in caplog.text


def test_numbers_and_names_that_msgpack_does_not_have_are_sent_as_near_as_can_be(
    listener, publisher
):
    publisher.publish([sample(1, metadata={"mount": "/mnt/\udcff", "serial": [1 << 70]})])

    found = received(listener)
    assert found["resource_metadata"] == {"mount": "/mnt/?", "serial": [str(1 << 70)]}


def test_a_volume_that_msgpack_cannot_hold_is_set_aside(listener, publisher):
    publisher.publish([sample(1 << 70), sample(1)])

    assert received(listener)["counter_volume"] == 1
    assert publisher.refused == 1


def test_where_the_host_says_that_nobody_listens_it_is_a_failure_and_passes(until):
    port = free_port()
    publisher = UDPPublisher(f"udp://127.0.0.1:{port}", SETTINGS)

    def refused():
        # The host says so after a datagram was sent, on a busy machine not before the next one.
        try:
            publisher.publish(samples(2))
        except OutputFailed as error:
            return str(error)
        return None

    told = until(refused, "the host says that nobody listens")
    assert re.match(r"cannot send to udp://127\.0\.0\.1.* refused", told)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", port))
        listener.settimeout(60)

        def published():
            try:
                publisher.publish([sample(7)])
            except OutputFailed:  # that of a datagram from before
                return False
            return True

        until(published, "no refusal is left")
        assert received(listener)["counter_volume"] == 7
    publisher.close()


def test_a_host_that_is_not_known_is_a_failure():
    publisher = UDPPublisher("udp://nowhere.invalid:1", SETTINGS)

    with pytest.raises(OutputFailed, match=r"cannot send to udp://nowhere\.invalid:1"):
        publisher.publish(samples(1))


@pytest.mark.parametrize("url", ["udp://", "udp://:4952", "udp://h:0", "udp://h:1/path"])
def test_what_is_no_address_is_an_error(url):
    with pytest.raises(BadURL, match="is not an address: write udp://host:port"):
        UDPPublisher(url, SETTINGS)


def test_closing_twice_closes_once(publisher):
    publisher.publish(samples(1))

    publisher.close()
    publisher.close()
