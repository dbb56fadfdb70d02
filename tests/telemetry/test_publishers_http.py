import base64
import email.utils
import gzip
import json
import socket
import ssl
import time
import tracemalloc

import pytest
import trustme

from hashring.errors import BadURL
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.publishers.http import HTTPPublisher
from hashring.telemetry.publishers.otlp import OTLPPublisher
from tests.servers.http import HTTPServer
from tests.servers.process import free_port
from tests.telemetry.publishing import SETTINGS, Answer, Sink, sample, samples


@pytest.fixture
def sink():
    with Sink().running() as found:
        yield found


@pytest.fixture
def make(sink):
    made = []

    def make(options="", userinfo=""):
        url = f"http://{userinfo}127.0.0.1:{sink.port}/in{options}"
        made.append(HTTPPublisher(url, SETTINGS))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


def volumes(request):
    return [one["volume"] for one in json.loads(request.body)]


def test_samples_are_posted_as_a_list_of_json_objects(sink, make):
    found = samples(3)

    make().publish(found)

    (request,) = sink.requests
    assert request.path == "/in"
    assert request.headers["content-type"] == "application/json"
    assert [Sample.from_json(one) for one in json.loads(request.body)] == found


def test_a_long_list_is_sent_in_batches(sink, make):
    make("?batch_size=4").publish(samples(10))

    assert [len(volumes(request)) for request in sink.requests] == [4, 4, 2]


def test_without_batches_each_sample_is_one_object_as_ceilometer_sends_it(sink, make):
    make("?batch=False&poolsize=2").publish(samples(2))

    assert [json.loads(request.body)["volume"] for request in sink.requests] == [0, 1]


def test_nothing_to_send_is_not_sent(sink, make):
    make().publish([])

    assert sink.requests == []


def test_user_and_password_of_the_url_are_sent_and_never_shown(sink, make):
    sink.answer = lambda request: Answer(401)
    publisher = make(userinfo="app:s%2F%C3%A9cret@")

    with pytest.raises(OutputFailed, match="check user, password and headers") as failure:
        publisher.publish(samples(1))

    sent = sink.requests[0].headers["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "app:s/écret"
    assert "cret" not in str(failure.value)
    assert publisher.url == f"http://app:***@127.0.0.1:{sink.port}/in"
    assert publisher.refused == 0


def test_headers_come_from_the_environment(sink, make, monkeypatch, tmp_path):
    # A netrc file that knows the host would otherwise take the place of our header.
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("SINK_HEADERS", "Authorization: Bearer abc\n\nX-Scope-OrgID: a:b\n")

    make("?headers_env=SINK_HEADERS").publish(samples(1))

    headers = sink.requests[0].headers
    assert (headers["authorization"], headers["x-scope-orgid"]) == ("Bearer abc", "a:b")


def test_a_line_that_is_no_header_is_an_error_that_does_not_show_it(make, monkeypatch):
    monkeypatch.setenv("SINK_HEADERS", "X-A: 1\nBearer s3cret")

    with pytest.raises(BadURL, match="line 2 of the environment variable 'SINK_HEADERS'") as error:
        make("?headers_env=SINK_HEADERS")

    assert "s3cret" not in str(error.value)


def test_a_header_of_the_environment_never_doubles_one_of_the_request(sink, make, monkeypatch):
    monkeypatch.setenv("SINK_HEADERS", "content-TYPE: text/plain\nauthorization: Bearer abc")

    make("?headers_env=SINK_HEADERS", userinfo="app:pw@").publish(samples(1))

    headers = sink.requests[0].headers
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Basic YXBwOnB3"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_answer_of_2xx_takes_the_samples(sink, make, status):
    sink.answer = lambda request: Answer(status)

    make().publish(samples(1))

    assert len(sink.requests) == 1


@pytest.mark.parametrize("status", [302, 403, 404, 408, 429, 500, 502, 503])
def test_an_answer_that_blames_no_sample_is_a_failure_and_the_samples_may_be_sent_again(
    sink, make, status
):
    sink.answer = lambda request: Answer(status, body=b"not now")
    publisher = make()

    with pytest.raises(OutputFailed, match=rf"127\.0\.0\.1.*/in: it answered {status}.*not now"):
        publisher.publish(samples(3))

    assert len(sink.requests) == 1
    assert publisher.refused == 0
    sink.answer = lambda request: Answer()
    publisher.publish(samples(3))
    assert volumes(sink.requests[-1]) == [0, 1, 2]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_sample_is_set_aside_and_all_others_are_taken(sink, make, caplog, status):
    taken = []

    def answer(request):
        if any(volume in (3, 11) for volume in volumes(request)):
            return Answer(status, body=b"volume out of range")
        taken.extend(volumes(request))
        return Answer()

    sink.answer = answer
    publisher = make()

    publisher.publish(samples(20))

    assert sorted(taken) == [n for n in range(20) if n not in (3, 11)]
    assert publisher.refused == 2
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert f"it answered {status}" in errors[0]
    assert "volume out of range" in errors[0]
    assert samples(20)[3].id in errors[0]


def test_a_batch_that_is_too_large_is_split_until_it_is_taken(sink, make):
    sink.answer = lambda request: Answer(413 if len(volumes(request)) > 3 else 200)
    publisher = make()

    publisher.publish(samples(10))

    taken = [volumes(request) for request in sink.requests if len(volumes(request)) <= 3]
    assert [volume for part in taken for volume in part] == list(range(10))
    assert publisher.refused == 0


def test_refused_samples_are_counted_once_although_the_others_had_to_be_sent_again(sink, make):
    answers = {2: Answer(400), 3: Answer(503)}
    sink.answer = lambda request: answers.get(volumes(request)[0], Answer())
    publisher = make("?batch_size=1")
    with pytest.raises(OutputFailed):
        publisher.publish(samples(5))
    del answers[3]

    publisher.publish(samples(5))

    assert publisher.refused == 1


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("86400", 300, 300),
        ("-1", 0, 0),
        ("soon", None, None),
        ("Thu, 31 Dec 99999999999999999999 00:00:00 GMT", None, None),
        (None, 60, 101),  # a date
    ],
)
def test_retry_after_is_told_within_bounds(sink, make, value, least, most):
    if value is None:
        value = email.utils.formatdate(time.time() + 100, usegmt=True)
    sink.answer = lambda request: Answer(429, {"Retry-After": value})

    with pytest.raises(OutputFailed) as failure:
        make().publish(samples(1))

    asked = failure.value.retry_after
    if least is None:
        assert asked is None
    else:
        assert least <= asked <= most


def test_a_sink_that_asked_to_be_left_alone_is(sink, make, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("hashring.clock.boottime", lambda: now[0])
    sink.answer = lambda request: Answer(503, {"Retry-After": "30"})
    publisher = make()
    with pytest.raises(OutputFailed):
        publisher.publish(samples(1))
    sink.answer = lambda request: Answer()

    now[0] += 29
    with pytest.raises(OutputFailed, match="asked to be left alone for 1 s more"):
        publisher.publish(samples(1))
    assert len(sink.requests) == 1

    now[0] += 2
    publisher.publish(samples(1))
    assert len(sink.requests) == 2


def test_a_sink_that_is_away_is_a_failure_that_says_so_and_passes():
    port = free_port()
    publisher = HTTPPublisher(f"http://127.0.0.1:{port}/in?max_retries=1", SETTINGS)

    with pytest.raises(OutputFailed, match=r"cannot publish to http.*Connection refused"):
        publisher.publish(samples(1))
    publisher.close()


def test_further_tries_to_connect_leave_no_line_with_the_sinks_address_in_the_log(caplog):
    url = f"http://127.0.0.1:{free_port()}/hooks/s3cret?max_retries=2"
    publisher = HTTPPublisher(url, SETTINGS)

    with pytest.raises(OutputFailed, match="Connection refused"):
        publisher.publish(samples(1))

    assert caplog.text == ""
    publisher.close()


def test_a_sink_is_reached_through_the_environments_proxy_unless_it_is_excepted(
    sink, make, monkeypatch
):
    with Sink().running() as proxy:
        monkeypatch.setenv("http_proxy", f"http://who:s3cret@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.0/8")
        make().publish(samples(1))
        monkeypatch.setenv("no_proxy", "localhost")

        make().publish(samples(2))

        assert len(sink.requests) == 1
        (passed,) = proxy.requests
        assert passed.path == f"http://127.0.0.1:{sink.port}/in"
        assert passed.headers["proxy-authorization"] == "Basic d2hvOnMzY3JldA=="


def test_a_sink_that_does_not_answer_is_a_failure_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        publisher = HTTPPublisher(f"http://127.0.0.1:{port}/in?timeout=0.1", SETTINGS)

        with pytest.raises(OutputFailed, match=r"no whole answer within 0\.1 s"):
            publisher.publish(samples(1))
        publisher.close()


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def files(tmp_path, authority):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client = authority.issue_cert("agent@example.org")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    return tmp_path


@pytest.fixture
def secure(authority):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_OPTIONAL
    with Sink(tls).running() as found:
        yield found


@pytest.fixture
def https(secure, files):
    made = []

    def make(options):
        url = f"https://localhost:{secure.port}/in?max_retries=0{options.format(files=files)}"
        made.append(HTTPPublisher(url, SETTINGS))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


@pytest.mark.parametrize(
    "options",
    [
        "&ca={files}/ca.pem",
        "&verify_ssl={files}/ca.pem",
        "&ca={files}/ca.pem&clientcert={files}/client.pem&clientkey={files}/client.key",
    ],
)
def test_a_certificate_is_checked_by_the_file_that_is_named(
    secure, https, options, monkeypatch, files
):
    # What the environment says of other certificates is not for this sink.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files / "client.pem"))

    https(options).publish(samples(1))

    assert len(secure.requests) == 1


def test_a_certificate_that_nobody_vouches_for_is_a_failure(secure, https):
    with pytest.raises(OutputFailed, match="certificate verify failed"):
        https("").publish(samples(1))

    assert secure.requests == []


def test_a_certificate_need_not_be_checked_and_that_is_said(secure, https, caplog):
    https("&verify_ssl=False").publish(samples(1))

    assert len(secure.requests) == 1
    assert "the sink's certificate is not checked" in caplog.text


def test_a_sink_may_demand_a_certificate_of_ours(authority, files):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    with Sink(tls).running() as found:
        url = f"https://localhost:{found.port}/in?max_retries=0&ca={files}/ca.pem"
        shown = f"&clientcert={files}/client.pem&clientkey={files}/client.key"
        nobody, somebody = HTTPPublisher(url, SETTINGS), HTTPPublisher(url + shown, SETTINGS)

        with pytest.raises(OutputFailed, match="cannot publish to https"):
            nobody.publish(samples(1))
        somebody.publish(samples(1))

        assert len(found.requests) == 1
        nobody.close()
        somebody.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http:///in", "names no host"),
        ("http://h:0/in", "names no host"),
        ("http://h?timeout=0", "the option 'timeout' cannot be '0': must be a positive number"),
        ("http://h?raw_only=1", "unknown option 'raw_only'; known: batch, batch_size, ca, "),
        ("https://h?ca=/nowhere.pem", "the option 'ca' cannot be '/nowhere.pem': there is no such"),
        ("https://h?verify_ssl=maybe", "the option 'verify_ssl' cannot be 'maybe'"),
        ("https://h?verify_ssl=no&ca=/dev/null", "verify_ssl=false and ca= contradict"),
        ("https://h?clientkey=/dev/null", "clientkey needs clientcert"),
        ("http://h?headers_env=NO_SUCH_HEADERS", "no such variable is in the environment"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url, said):
    with pytest.raises(BadURL, match=said):
        HTTPPublisher(url, SETTINGS)


def test_a_sample_that_is_not_json_for_the_sink_costs_itself_alone(sink, make):
    def strict(request):
        refuse = b"NaN" in request.body
        return Answer(400 if refuse else 200)

    sink.answer = strict
    publisher = make()

    publisher.publish([sample(1), sample(float("nan")), sample(2)])

    assert publisher.refused == 1


@pytest.mark.parametrize("publisher", [HTTPPublisher, OTLPPublisher])
@pytest.mark.parametrize("headers", [True, False], ids=["headers", "body"])
def test_a_sink_that_drips_its_answer_holds_nobody_beyond_the_timeout(publisher, headers):
    with HTTPServer() as sink:
        sink.answer("/in", "a" * 400, status=503, drip=0.1, drip_headers=headers)
        scheme = "otlp+http" if publisher is OTLPPublisher else "http"
        made = publisher(f"{scheme}://127.0.0.1:{sink.port}/in?timeout=0.5", SETTINGS)
        begun = time.monotonic()

        with pytest.raises(OutputFailed, match=r"no whole answer within 0\.5 s"):
            made.publish(samples(1))
        made.close()

        # The answer takes 40 s and more; each of its bytes comes long before the timeout.
        assert time.monotonic() - begun < 30


def test_of_an_answer_without_end_the_beginning_is_read():
    with HTTPServer() as sink:
        bomb = gzip.compress(b"no " * 30_000_000)
        sink.answer("/in", bomb, status=503, headers=(("Content-Encoding", "gzip"),))
        made = HTTPPublisher(f"http://127.0.0.1:{sink.port}/in", SETTINGS)

        tracemalloc.start()
        try:
            with pytest.raises(OutputFailed, match="503 Service Unavailable: no no no"):
                made.publish(samples(1))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        made.close()

        assert most < 8_000_000 + len(bomb)
