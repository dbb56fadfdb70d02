"""What a ``postgresql://`` URL says: its options, and libpq's parameters. Connects to nothing."""

from __future__ import annotations

from hashring.driver import Driver, Option
from hashring.errors import BadURL
from hashring.url import seconds

from .tables import identifier

__all__ = ["OPTIONS", "parameters_of"]


def _pooler(text: str) -> str:
    if text not in {"refuse", "session"}:
        raise ValueError("must be refuse or session")
    return text


OPTIONS = (
    Option("table", identifier, "hashring", "the name of the table"),
    Option("schema", identifier, None, "its schema; default: by the role's search_path"),
    Option("poll", seconds, 1.0, "seconds after which wait() asks, should a message be lost"),
    Option("pooler", _pooler, "refuse", "session: behind a connection pooler in session mode"),
    Option("service", str, None, "a section of libpq's service file, as PGSERVICE"),
    Option("passfile", str, None, "libpq's file of passwords; default: ~/.pgpass"),
    Option("host", str, None, "the folder of the server's Unix socket, or a host"),
    Option("port", str, None, "the port, where the URL's hosts name none"),
    Option("dbname", str, None, "the database, instead of the path"),
    Option("user", str, None, "the role, instead of the URL's user"),
    Option("password", str, None, "its password, instead of the URL's", secret=True),
    Option("sslmode", str, None, "disable, allow, prefer, require, verify-ca or verify-full"),
    Option("sslrootcert", str, None, "file with the authorities to trust"),
    Option("sslcert", str, None, "file with our certificate, for a server that asks for one"),
    Option("sslkey", str, None, "file with its key"),
    Option("sslpassword", str, None, "the key's password", secret=True),
    Option("sslcrl", str, None, "file with the certificates that were revoked"),
    Option("channel_binding", str, None, "require, prefer or disable"),
    Option("gssencmode", str, "disable", "prefer or require: encrypt by Kerberos"),
    Option("application_name", str, "hashring", "what pg_stat_activity shows"),
)

_OURS = {"table", "schema", "poll", "pooler"}


def parameters_of(driver: Driver) -> dict[str, str]:
    """Return libpq's parameters. What they leave out libpq finds in its environment and files.

    Raises:
        BadURL: they contradict each other.
    """
    url = driver.url
    found: dict[str, str] = {}
    if url.hosts:
        found["host"] = ",".join(host for host, _ in url.hosts)
        # An empty port is the default one, which PGPORT may set.
        found["port"] = ",".join("" if port is None else str(port) for _, port in url.hosts)
        if not found["port"].strip(","):
            del found["port"]
    for name, value in (
        ("user", url.user),
        ("password", url.secret),
        ("dbname", url.path.removeprefix("/") or None),
    ):
        if value is not None:
            found[name] = value
    if "/" in found.get("dbname", ""):
        raise BadURL(f"{url}: the path must be the name of one database")
    for option in OPTIONS:
        value = driver.settings[option.name]
        if option.name in _OURS or value is None:
            continue
        if option.name in found:
            raise BadURL(f"{url}: {option.name} stands in the URL, and as an option: write it once")
        found[option.name] = value
    # target_session_attrs: of several hosts the primary alone is a store.
    return {**found, "client_encoding": "UTF8", "target_session_attrs": "primary"}
