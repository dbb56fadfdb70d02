"""Settings: what one agent is told to do. Plain values, sent to other processes as they are.

Where they come from (a configuration file, a command line) and whether they are right is the
business of the modules that make them; how anything is done, of those that read them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

__all__ = ["SCRAPE_PROTOCOLS", "Settings"]

SCRAPE_PROTOCOLS = (
    "PrometheusProto",
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText0.0.4",
)
"""The formats in which a target of Prometheus may be asked for its metrics, in its own order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What one agent is told to do.

    Attributes:
        backend_url: the store of the agent's groups, in our spelling.
        member: this agent's id in every group.
        host: this host's id: part of the ids of what it has, and of its local groups' names.
        namespaces: ``"central"``, ``"compute"``, or both: which pollsters run.
        ttl: seconds after which the others may take over from an agent that is silent.
        heartbeat: the longest time between two heartbeats in seconds; ``None``: a third of ttl.
        retry_backoff: seconds before a store that is away at the start is tried again, growing
            to max_retry_interval; 0: such a store is an error.
        max_retry_interval: the longest such wait in seconds.
        group: share everything in one group of this name; ``None``: a group for each discovery
            and each list of static resources.
        group_prefix: ``partitioning_group_prefix``: agents with different ones share nothing.
        allow_overlap: start although another agent's meters overlap with this one's.
        workload_partitioning: instances of a shared hypervisor connection are split; otherwise
            each compute agent polls its own host's.
        libvirt_uri: the hypervisor connection; empty: libvirt's own choice.
        polling_file: the polling definition; ``None``: the pipeline's sources say what to poll,
            and where there is no pipeline either, everything is polled.
        pipeline_file: the pipeline definition; ``None``: all samples go to ``output``.
        definition_dirs: where the definitions of dynamic pollsters lie.
        interval: seconds between two polls where no definition says so.
        output: the publisher of samples where there is no pipeline definition.
        state_dir: where the spool lies; ``None``: samples are not spooled but published at once.
        spool_bytes: the bound of the spool.
        batch_size: samples that are published together, at most.
        threads: the polls that run at once, for each source, of pollsters that need a thread.
        max_in_flight: the polls that run at once on the event loop, over HTTP say.
        max_per_host: the connections over which polls ask one host and port at once.
        scrape_protocols: the formats in which Prometheus's targets are asked for their metrics, by
            Prometheus's names, the first one before the others.
        poll_timeout: seconds after which a poll is given up.
        spread: the part of the window, 0 to 1, over which polls are spread.
        on_crash: ``"repeat"`` or ``"skip"`` the window in which a dead agent's share is taken over.
        cycles: end after this many windows; ``None``: never.
        only: poll these ids alone; ``None``: whatever is discovered.
        status_file: keep the agent's status here, as JSON; ``None``: nowhere.
        listen: ``HOST:PORT`` or ``unix:PATH``, where the agent serves its page and its metrics;
            ``None``: nowhere.
        token: whoever sends it may change something by the page; empty: nobody may.
        token_file: or the file that has it, which is read anew each time.
        patience: seconds to wait for the lease of an agent of the same member id to run out,
            before it is an error; for whoever restarts an agent that died.
        drain_timeout: seconds that an agent may take to end: for the polls in hand, the hand-over
            and the samples that wait; the latter two have a little more where they need it.
        config_files: what these settings were read from, to be read again on a reload.
        config_dirs: folders of such files.

    Example:
        >>> Settings(backend_url="memory://", member="a", host="web1").namespaces
        ('central',)
    """

    backend_url: str
    member: str
    host: str
    namespaces: tuple[str, ...] = ("central",)
    ttl: float = 10.0
    heartbeat: float | None = None
    retry_backoff: float = 1.0
    max_retry_interval: float = 30.0
    group: str | None = None
    group_prefix: str = ""
    allow_overlap: bool = False
    workload_partitioning: bool = False
    libvirt_uri: str = ""
    polling_file: Path | None = None
    pipeline_file: Path | None = None
    definition_dirs: tuple[Path, ...] = ()
    interval: float = 60.0
    output: str = "stdout://"
    state_dir: Path | None = None
    spool_bytes: int = 256 * 1024 * 1024
    batch_size: int = 5000
    threads: int = 16
    max_in_flight: int = 1000
    max_per_host: int = 64
    scrape_protocols: tuple[str, ...] = (
        "PrometheusProto",
        "PrometheusText0.0.4",
        "OpenMetricsText1.0.0",
    )
    poll_timeout: float = 30.0
    spread: float = 0.0
    on_crash: Literal["repeat", "skip"] = "repeat"
    cycles: int | None = None
    only: tuple[str, ...] | None = None
    status_file: Path | None = None
    listen: str | None = None
    token: str = dataclasses.field(default="", repr=False)
    token_file: Path | None = None
    patience: float = 0.0
    drain_timeout: float = 30.0
    config_files: tuple[Path, ...] = ()
    config_dirs: tuple[Path, ...] = ()
