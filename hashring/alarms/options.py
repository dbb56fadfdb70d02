"""Options: an evaluator's settings from configuration files, the environment and the command line.

The sections and names are Aodh's, so an ``aodh.conf`` that is there can be used; what is ours alone
stands in ``[alarm]``. What comes later wins: defaults, files in order, environment variables
``OS_SECTION__OPTION``, the command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from oslo_config import cfg, types

from hashring import driver
from hashring.alarms.database.engine import default_url
from hashring.alarms.prometheus_place import prometheus_place
from hashring.alarms.settings import Settings
from hashring.errors import BadURL, UnknownDriver
from hashring.telemetry.config.backend_url import translate_backend_url
from hashring.telemetry.config.declared import Count, Seconds
from hashring.telemetry.config.defaults import default_member, user_state_folder
from hashring.telemetry.config.files import ConfigFiles
from hashring.telemetry.config.options import page_token
from hashring.telemetry.errors import BadOption
from hashring.telemetry.model.listen import ListenAddress
from hashring.telemetry.model.suggestions import meant

__all__ = ["SECTIONS", "list_opts", "load"]


def _opt(name: str, kind: Any, default: Any, help: str, **more: Any) -> cfg.Opt:
    return cfg.Opt(name, type=kind, default=default, help=help, **more)


SECTIONS: Mapping[str, Sequence[cfg.Opt]] = {
    "DEFAULT": (
        _opt(
            "additional_ingestion_lag",
            Seconds(0.0),
            0.0,
            "Seconds by which the time that sources are asked about lies before a window's start.",
        ),
        _opt("prometheus_project_label_name", str, "project", "The label that says whose it is."),
        _opt("rest_notifier_certificate_file", str, "", "Client certificate for https sinks."),
        _opt("rest_notifier_certificate_key", str, "", "Its key."),
        _opt("rest_notifier_ca_bundle_certificate_path", str, None, "Authorities of https sinks."),
        _opt("rest_notifier_ssl_verify", types.Boolean(), True, "Check their certificates."),
    ),
    "evaluator": (
        _opt(
            "evaluation_interval",
            Seconds(0.5),
            60.0,
            "The length of a window in seconds: each alarm is evaluated once in each.",
        ),
    ),
    "database": (
        _opt(
            "connection",
            str,
            None,
            "The alarms' database, as SQLAlchemy spells it. Default: SQLite in the state folder.",
            secret=True,
        ),
    ),
    "coordination": (
        _opt("backend_url", str, None, "The group's store, as tooz spells it.", secret=True),
        _opt("heartbeat_interval", Seconds(0.01), 1.0, "Seconds between two heartbeats."),
    ),
    "service_credentials": (
        _opt("auth_type", str, None, "How we say to Keystone who we are: password, and so on."),
    ),
    "listener": (
        _opt("event_alarm_topic", str, "alarm.all", "The queue's topic from which events come."),
        _opt("batch_size", Count(min=1, max=10_000), 1, "Messages that are taken at once."),
        _opt(
            "batch_timeout",
            Seconds(0.0),
            None,
            "Seconds for which so many are waited for. Default: for as long as it takes.",
        ),
    ),
    "hashring": (
        _opt(
            "listen",
            str,
            None,
            "HOST:PORT or unix:/PATH where an evaluator serves its page and its metrics.",
        ),
        _opt("token", str, "", "Whoever sends it may steer the group by the page.", secret=True),
        _opt("token_file", str, None, "The file that has the token, read anew each time."),
    ),
    "alarm": (
        _opt("state_dir", str, None, "Folder of the database and the group's store of one host."),
        _opt("partitioning_group_prefix", str, None, "Evaluators of one prefix share alarms."),
        _opt("member", str, None, "This evaluator's id. Default: the host and a random part."),
        _opt("ttl", Seconds(0.5, 3600.0), 10.0, "Seconds after which others take over."),
        _opt("drain_timeout", Seconds(0.0, 3600.0), 10.0, "Seconds for the hand-over at the end."),
        _opt("definitions_dirs", types.List(), [], "Folders of *.yaml with alarms."),
        _opt("prometheus_url", str, None, "Where PromQL queries are asked.", secret=True),
        _opt("gnocchi_url", str, None, "Where rules on Gnocchi are asked.", secret=True),
        _opt("prometheus_ca_file", str, None, "Authorities of an https Prometheus."),
        _opt("query_timeout", Seconds(0.05, 600.0), 10.0, "Seconds for one answer of a source."),
        _opt("threads", Count(min=1, max=256), 16, "Queries at once, and notifications at once."),
        _opt(
            "source_grace",
            Count(min=0, max=1000),
            3,
            "Windows in a row for which a source may be away before state turns unknown.",
        ),
        _opt("action_timeout", Seconds(0.05, 60.0), 5.0, "Seconds for one try of a notification."),
        _opt("give_up_after", Seconds(0.0), 3600.0, "Seconds after which one is given up."),
        _opt("keep_for", Seconds(60.0), 86_400.0, "Seconds for which notifications are kept."),
        _opt("signing_key", str, "", "Signs the bodies of notifications.", secret=True),
        _opt("listen", str, "127.0.0.1:8042", "host:port where samples are taken."),
        _opt("status_file", str, None, "Where an evaluator keeps its status, as JSON."),
    ),
}
"""The options that count here, by section."""


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for oslo.config's generator of sample files."""
    return [(section, list(opts)) for section, opts in SECTIONS.items()]


class _Files(ConfigFiles):
    """An aodh.conf: of its other options, nothing is said; a typo of one of ours is an error."""

    sections = SECTIONS
    project = "aodh"

    def refuse_unknown(self) -> None:
        """Refuse what looks like a typo.

        Raises:
            BadOption: an option of [alarm] is unknown.
        """
        known = sorted(opt.dest for opt in SECTIONS["alarm"])
        listed = f"; [alarm] has: {', '.join(known)}"
        for found in self.all_given():
            if found.section == "alarm" and found.name not in known:
                raise BadOption(
                    f"{found.where}: unknown option{meant(found.name, known) or listed}"
                )
        for variable in self.environment:
            option = variable.removeprefix("OS_ALARM__").lower()
            if variable.startswith("OS_ALARM__") and option not in known:
                raise BadOption(f"environment: {variable}: unknown option{meant(option, known)}")


_OPTION_OF: Mapping[str, tuple[str, str]] = {
    "interval": ("evaluator", "evaluation_interval"),
    "lag": ("DEFAULT", "additional_ingestion_lag"),
    "verify": ("DEFAULT", "rest_notifier_ssl_verify"),
    "ca_file": ("DEFAULT", "rest_notifier_ca_bundle_certificate_path"),
    "client_certificate": ("DEFAULT", "rest_notifier_certificate_file"),
    "client_key": ("DEFAULT", "rest_notifier_certificate_key"),
    "prometheus_ca": ("alarm", "prometheus_ca_file"),
    "project_label": ("DEFAULT", "prometheus_project_label_name"),
    "page": ("hashring", "listen"),
    "event_topic": ("listener", "event_alarm_topic"),
    "event_batch": ("listener", "batch_size"),
    "event_batch_timeout": ("listener", "batch_timeout"),
    **{
        name: ("alarm", name)
        for name in (
            *("ttl", "drain_timeout", "prometheus_url", "query_timeout", "threads", "listen"),
            "gnocchi_url",
            *("source_grace", "action_timeout", "give_up_after", "keep_for", "signing_key"),
        )
    },
}
"""The settings that an option stands for as it is."""

_FLAGS: Mapping[str, str] = {"threads": "workers", "page": "listen"}
"""The command line's name of a setting, where it is another one."""

_CAN_BE_EMPTY = frozenset({"signing_key", "listen"})


def load(
    config_files: Iterable[Path] = (), config_dirs: Iterable[Path] = (), **overrides: Any
) -> Settings:
    """Return the settings of an evaluator.

    Args:
        config_files: such as ``/etc/aodh/aodh.conf``.
        config_dirs: folders of more.
        overrides: fields of :class:`Settings`, and ``state_dir``; ``None`` counts as not given.

    Raises:
        BadOption: a file cannot be read, or an option is unknown, ill-typed or out of its range;
            the message names file, line, section, option and value.
        MissingDependency: the store's client library is not installed.
    """
    files, folders = tuple(map(Path, config_files)), tuple(map(Path, config_dirs))
    read = _Files([*files], [*folders], True)
    read.refuse_unknown()
    given = {name: value for name, value in overrides.items() if value is not None}
    values: dict[str, Any] = {"config_files": files, "config_dirs": folders}
    for name, option in _OPTION_OF.items():
        found = _checked(name, option, given[name]) if name in given else read.value(*option)
        values[name] = found if found or name in _CAN_BE_EMPTY or found == 0 else None
    if values["prometheus_url"] is None and (found := prometheus_place()) is not None:
        values |= {"prometheus_url": found.url, "prometheus_ca": found.ca_file}
    values["has_credentials"] = bool(read.value("service_credentials", "auth_type"))
    folder = _folder(given.get("state_dir") or read.value("alarm", "state_dir"))
    values["database"] = str(
        given.get("database") or read.value("database", "connection") or default_url(folder)
    )
    values["member"] = given.get("member") or read.value("alarm", "member") or default_member()
    values["group"] = _group(read.value("alarm", "partitioning_group_prefix"))
    status = given.get("status_file") or read.value("alarm", "status_file")
    values["status_file"] = None if status is None else Path(status)
    values["definitions"] = _definitions(read, given)
    _check_page(values["page"], "--listen" if "page" in given else read.place("hashring", "listen"))
    values |= page_token(read, given)
    values |= _store(read, given, values, folder)
    return Settings(**values)


def _checked(name: str, option: tuple[str, str], value: Any) -> Any:
    """Return a value of the command line, of its option's type."""
    section, dest = option
    [kind] = [opt.type for opt in SECTIONS[section] if opt.dest == dest]
    try:
        return kind(value)
    except ValueError as error:
        flag = _FLAGS.get(name, name.replace("_", "-"))
        raise BadOption(f"--{flag} = {value!r}: {error}") from None


def _check_page(address: str | None, where: str) -> None:
    if address is not None:
        try:
            ListenAddress.parse(address)
        except ValueError as error:
            raise BadOption(f"{where} = {address!r}: {error}") from None


def _folder(given: Any) -> Path:
    if given:
        return Path(given).expanduser()
    if named := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:  # systemd's
        return Path(named)
    return user_state_folder("the default state folder")


def _group(prefix: str | None) -> str:
    return f"{prefix}/alarms" if prefix else "alarms"


def _definitions(read: _Files, given: Mapping[str, Any]) -> tuple[Path, ...]:
    if given.get("definitions"):
        folders, where = [Path(path) for path in given["definitions"]], "--definitions"
    else:
        folders = [Path(path).expanduser() for path in read.value("alarm", "definitions_dirs")]
        where = read.place("alarm", "definitions_dirs")
    for folder in folders:
        if not folder.is_dir():
            raise BadOption(f"{where}: there is no folder {str(folder)!r}")
    return tuple(folder.absolute() for folder in folders)


def _store(
    read: _Files, given: Mapping[str, Any], values: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Return the settings of the group's store: its URL, the lease, the heartbeat."""
    option = ("coordination", "backend_url")
    heartbeat = read.value("coordination", "heartbeat_interval")
    ttl, where = values["ttl"], "--backend-url"
    ttl_is_given = "ttl" in given or read.is_given("alarm", "ttl")
    if "backend_url" in given:
        url = str(given["backend_url"])
        lease = None if ttl_is_given else _driver(url, None, where).ttl
    elif text := (read.value(*option) or "").strip():
        where = read.place(*option)
        url, lease = translate_backend_url(text, heartbeat)
    else:
        url, lease, where = _embedded(folder), None, "the store in the state folder"
    if lease is not None and not ttl_is_given:
        ttl = lease
    _driver(url, ttl, where)
    return {
        "backend_url": url,
        "ttl": ttl,
        "heartbeat": heartbeat if heartbeat <= ttl / 3 else None,
    }


def _embedded(folder: Path) -> str:
    return f"sqlite://{quote(str((folder / 'alarms-group.db').absolute()))}"


def _driver(url: str, ttl: float | None, where: str) -> driver.Driver:
    try:
        return driver.load(url, ttl=ttl)
    except (BadURL, UnknownDriver) as error:
        raise BadOption(f"{where}: {error}") from None
