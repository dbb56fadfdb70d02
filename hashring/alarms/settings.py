"""Settings: what a program of the alarms is told, checked. Knows no file and no option's place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["Settings"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What an evaluator is told.

    Attributes:
        database: the URL of the alarms' database, in SQLAlchemy's spelling.
        backend_url: the URL of the group's store.
        group: whose members share the alarms.
        member: this one's id in the group.
        ttl: the lease in seconds: how long after a crash others take over.
        heartbeat: the longest time between two heartbeats in seconds; ``None``: a third of ``ttl``.
        drain_timeout: seconds for the hand-over at the end.
        interval: the length of a window in seconds; each alarm is evaluated once in each.
        lag: seconds by which the time that sources are asked about lies before the window's start:
            what was measured needs so long to arrive.
        definitions: folders of files of alarms.
        prometheus_url: where PromQL queries are asked; ``None``: nowhere.
        prometheus_ca: a file of authorities for it.
        project_label: the label of series that says whose they are, for rules of one project.
        gnocchi_url: where rules on Gnocchi are asked; ``None``: as Keystone's catalog says.
        has_credentials: the files say who we are to Keystone.
        query_timeout: seconds for the answer to one query.
        threads: queries at once; and notifications at once.
        source_grace: windows in a row for which a source may be away before alarms become
            *insufficient data*; 0: at once.
        action_timeout: seconds for one try of a notification.
        give_up_after: seconds after which a notification is given up.
        keep_for: seconds for which delivered notifications and samples are kept.
        signing_key: with it bodies of notifications are signed (HMAC-SHA256); may be empty.
        verify: certificates of https sinks are checked.
        ca_file: a file of authorities for them; ``None``: the usual ones.
        client_certificate: shown to them, with its key.
        client_key: ``None``: the certificate's file has it.
        listen: ``host:port`` where samples are taken.
        event_topic: of the queue from which a listener takes events.
        event_batch: messages that a listener takes at once, at most.
        event_batch_timeout: seconds that it waits for so many; ``None``: for as long as it takes.
        config_files, config_dirs: with the options of the queue's client.
        page: where an evaluator serves its page and its metrics; ``None``: nowhere.
        token, token_file: whoever sends it may change something by the page; see the agents'.
        status_file: where an evaluator says how it is doing.
    """

    database: str
    backend_url: str
    member: str
    group: str = "alarms"
    ttl: float = 10.0
    heartbeat: float | None = None
    drain_timeout: float = 10.0
    interval: float = 60.0
    lag: float = 0.0
    definitions: tuple[Path, ...] = ()
    prometheus_url: str | None = None
    prometheus_ca: str | None = None
    project_label: str = "project"
    gnocchi_url: str | None = None
    has_credentials: bool = False
    query_timeout: float = 10.0
    threads: int = 16
    source_grace: int = 3
    action_timeout: float = 5.0
    give_up_after: float = 3600.0
    keep_for: float = 86_400.0
    signing_key: str = ""
    verify: bool = True
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    listen: str = "127.0.0.1:8042"
    event_topic: str = "alarm.all"
    event_batch: int = 1
    event_batch_timeout: float | None = None
    config_files: tuple[Path, ...] = ()
    config_dirs: tuple[Path, ...] = ()
    page: str | None = None
    token: str = dataclasses.field(default="", repr=False)
    token_file: Path | None = None
    status_file: Path | None = None
