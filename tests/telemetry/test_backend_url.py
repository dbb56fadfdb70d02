"""What an operator's backend_url, in tooz's spelling, means to our drivers."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trustme

from hashring.driver import DriverURL, load
from hashring.errors import HashringError
from hashring.telemetry.config.backend_url import is_embedded, translate_backend_url
from hashring.telemetry.errors import BadOption


@pytest.mark.parametrize(
    ("theirs", "ours", "lease"),
    [
        ("redis://:pw@192.0.2.7:6379/", "redis://:pw@192.0.2.7:6379/", None),
        ("redis://localhost:6379?timeout=30", "redis://localhost:6379", 30),
        (
            "redis://u:p%2Fw@s1:26379?sentinel=m&sentinel_fallback=s2:1&sentinel_fallback=s3:2",
            "redis://u:p%2Fw@s1:26379?sentinel=m&sentinel_fallback=s2:1,s3:2",
            None,
        ),
        (
            "redis://s1?sentinel=m&ssl=true",
            "redis://s1?sentinel=m&ssl=true&sentinel_ssl=false",
            None,
        ),
        (
            "redis://a?ssl=true&ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k&db=3",
            "redis://a?ssl=true&ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k&db=3",
            None,
        ),
        (
            "redis://a?socket_timeout=2&socket_connect_timeout=1&timeout=9",
            "redis://a?timeout=2&connect_timeout=1",
            9,
        ),
        ("redis://a?membership_timeout=30&timeout=5", "redis://a?timeout=5", 30),
        ("redis:///run/redis.sock", "redis+unix:///run/redis.sock", None),
        ("redis://a/2", "redis://a/2", None),
        ("rediss://a?timeout=8", "rediss://a", 8),
        ("redis+cluster://a,b?timeout=8", "redis+cluster://a,b", 8),
        ("valkey://a?ttl=8", "valkey://a", 8),
        ("zookeeper://a:2181,b?timeout=15", "zookeeper://a:2181,b", 15),
        ("kazoo://a?hosts=b:1&hosts=c:2&namespace=tel", "kazoo://a,b:1,c:2/tel", None),
        ("memcached://m:11211?timeout=30", "memcached://m:11211", 30),
        (
            "memcached://m?use_ssl=True&ca_cert=/ca&ssl_cert=/c&ssl_key=/k",
            "memcached://m?tls=True&ca=/ca&cert=/c&key=/k",
            None,
        ),
        ("file:///var/lib/tooz?timeout=12", "tooz+file:///var/lib/tooz", 12),
        ("etcd://u:p@e,f/agents?ttl=12", "etcd://u:p@e,f/agents", 12.0),
        ("postgresql://u:p@h/db?sslmode=require", "postgresql://u:p@h/db?sslmode=require", None),
        (
            "etcd3+http://e:2379?timeout=12&api_version=v3",
            "tooz+etcd3+http://e:2379?api_version=v3",
            12,
        ),
        (
            "etcd3+https://e?membership_timeout=12&ca_cert=/ca",
            "tooz+etcd3+https://e?ca_cert=/ca",
            12,
        ),
        ("sqlite:///var/lib/a%20b.db?ttl=5", "sqlite:///var/lib/a%20b.db", 5),
        ("memory://", "memory://", None),
        ("tooz+file:///x?timeout=2", "tooz+file:///x?timeout=2", None),
        (" redis://[::1]:6379 ", "redis://[::1]:6379", None),
    ],
)
def test_a_url_of_toozs_becomes_ours_and_its_timeout_the_lease(
    theirs: str, ours: str, lease: float | None
):
    assert translate_backend_url(theirs, 1.0) == (ours, lease)
    assert load(ours, ttl=lease).ttl == (lease or 10.0)


def test_the_tls_options_of_toozs_zookeeper_have_our_names(tmp_path: Path):
    authority = trustme.CA()
    certificate = authority.issue_cert("agent")
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    theirs = "ca={0}/ca&certfile={0}/cert&keyfile={0}/key&keyfile_password=q&use_ssl=True"

    url, _ = translate_backend_url(f"zookeeper://u:p@a?{theirs.format(tmp_path)}", 1.0)

    found = DriverURL.parse(url)
    assert (found.user, found.secret, found.hosts) == ("u", "p", (("a", None),))
    assert found.options == {
        "ca": f"{tmp_path}/ca",
        "cert": f"{tmp_path}/cert",
        "key": f"{tmp_path}/key",
        "key_password": "q",
        "tls": "True",
    }


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("redis://a?lock_timeout=5", "lock_timeout"),
        ("redis://a?encoding=utf8", "encoding"),
        ("redis://a?retry_on_timeout=1", "retry_on_timeout"),
        ("redis://a?socket_keepalive=1", "socket_keepalive"),
        ("redis://a?health_check_interval=1", "health_check_interval"),
        ("zookeeper://a?connection_retry=1", "connection_retry"),
        ("zookeeper://a?command_retry=1", "command_retry"),
        ("zookeeper://a?randomize_hosts=1", "randomize_hosts"),
        ("zookeeper://a?handler=threading", "handler"),
        ("zookeeper://a?verify_certs=true", "verify_certs"),
        ("memcached://a?leader_timeout=3", "leader_timeout"),
        ("memcached://a?max_pool_size=3", "max_pool_size"),
        ("memcached://a?ssl_ciphers=ALL", "ssl_ciphers"),
        ("memcached://a?ssl_check_hostname=true", "ssl_check_hostname"),
        ("etcd3+http://a?lock_timeout=3", "lock_timeout"),
    ],
)
def test_what_has_no_effect_here_is_dropped_and_said_once(
    url: str, option: str, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        translated, _ = translate_backend_url(url, 1.0)

    assert "?" not in translated
    [record] = caplog.records
    assert f"the option {option} has no effect here" in record.getMessage()


@pytest.mark.parametrize(
    "url",
    [
        "memcached://cache?timeout=5",
        "memcached://cache?membership_timeout=5&timeout=60",
        "redis://cache?timeout=5",
        "zookeeper://zk?timeout=4",
        "file:///x?timeout=5",
        "etcd3+http://e?timeout=1",
        "sqlite:///x?ttl=5",
    ],
)
def test_a_timeout_that_does_not_exceed_the_heartbeat_is_refused_with_both(url: str):
    with pytest.raises(BadOption) as caught:
        translate_backend_url(url, 5.0)

    message = str(caught.value)
    name, _, value = url.partition("?")[2].partition("&")[0].partition("=")
    assert f"{name} = {value} s" in message
    assert "[coordination] heartbeat = 5 s" in message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis", "not a URL"),
        ("redis://a?timeut=3", "unknown option 'timeut' (did you mean 'timeout'?)"),
        ("redis://a?lok_timeout=3", "did you mean 'lock_timeout'?"),
        ("sqlite:///x?timeot=3", "did you mean 'timeout'?"),
        ("redis://a?db=one", "the option 'db' cannot be 'one': must be the number of a database"),
        ("redis://a?timeout=soon", "timeout must be a positive number of seconds, not 'soon'"),
        ("redis://a?timeout=0", "timeout must be a positive number of seconds"),
        ("redis://a?timeout=inf", "timeout must be a positive number of seconds"),
        ("redis://a?socket_timeout=1&timeout=9&membership_timeout=8", "are the same option"),
        ("redis://a,b", "several hosts are Sentinels"),
        ("zookeeper://a?hosts=b:x", "hosts must be host:port"),
        ("memcached://a,b", "name one server"),
        ("memcached://a?ssl_key_password=sesame", "the key must be one without a password"),
        ("ipc://", "use our own driver: memory:// or sqlite://"),
        ("mysql://u:sesame@h/db?x=1", "locks, but no groups"),
        ("tooz+postgresql://u:sesame@h/db", "locks, but no groups"),
        ("kubernetes://x", "locks, but no groups"),
        ("zake://", "not known to keep what it is given"),
        ("tooz+redis://u:sesame@a", "use our own driver: redis://"),
        ("carrier-pigeon://loft", "no driver serves carrier-pigeon://"),
    ],
)
def test_what_cannot_be_a_store_is_refused_without_its_secrets(url: str, said: str):
    with pytest.raises(BadOption) as caught:
        translate_backend_url(url, 1.0)

    message = str(caught.value)
    assert message.startswith("[coordination] backend_url")
    assert said in message
    assert "sesame" not in message


def test_the_error_is_one_of_ours_and_a_value_error():
    assert issubclass(BadOption, HashringError)
    assert issubclass(BadOption, ValueError)


@pytest.mark.parametrize(
    ("url", "embedded"),
    [
        ("sqlite:///a.db", True),
        ("SQLITE:///a.db", True),
        ("memory://", True),
        ("redis://a", False),
        ("tooz+file:///x", False),
    ],
)
def test_the_stores_of_one_host_are_told_from_those_of_many(url: str, embedded: bool):
    assert is_embedded(url) is embedded
