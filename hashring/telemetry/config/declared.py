"""What options there are: their sections, names, types, defaults and help, for oslo.config.

The sections and names are Ceilometer's; what is ours alone stands in ``[hashring]``. This module
only declares: it reads no file, and what a value leads to is said elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from oslo_config import cfg, types

from hashring.telemetry.model.listen import ListenAddress
from hashring.telemetry.model.settings import SCRAPE_PROTOCOLS, Settings

__all__ = [
    "LIBVIRT_URIS",
    "NAMESPACES",
    "NOVA",
    "OWN_SECTIONS",
    "SECTIONS",
    "WITHOUT_EFFECT",
    "Count",
    "Fraction",
    "Listen",
    "Seconds",
    "Text",
    "known_options",
    "list_opts",
]

_YEAR = 366 * 86_400.0
"""Seconds: more than that is a mistake."""


def _is(kind: type[int] | type[float], value: Any) -> bool:
    """Whether a value is, or spells, a number of this kind."""
    try:
        return not math.isnan(kind(value))
    except (ValueError, TypeError, OverflowError):
        return False


class Seconds(types.Float):
    """A finite number of seconds in a range."""

    def __init__(self, minimum: float, maximum: float = _YEAR) -> None:
        super().__init__(min=minimum, max=maximum, type_name="number of seconds")

    def __call__(self, value: Any) -> float:
        """Return the number; a ValueError says what is wrong."""
        if not _is(float, value):
            raise ValueError("must be a number of seconds")
        return float(super().__call__(value) or 0)


class Fraction(types.Float):
    """A number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__(min=0.0, max=1.0, type_name="number from 0 to 1")

    def __call__(self, value: Any) -> float:
        """Return the number; a ValueError says what is wrong."""
        if not _is(float, value):
            raise ValueError("must be a number from 0 to 1")
        return float(super().__call__(value) or 0)


class Count(types.Integer):
    """A whole number in a range; unlike oslo.config's, never nothing."""

    def __call__(self, value: Any) -> int:
        """Return the number; a ValueError says what is wrong."""
        if isinstance(value, bool | float) or not _is(int, value):
            raise ValueError("must be a whole number")
        return int(super().__call__(value) or 0)


class Text(types.String):
    """A text that is not empty."""

    def __call__(self, value: Any) -> str:
        """Return the text, without space around it; a ValueError says what is wrong."""
        text = str(super().__call__(value)).strip()
        if not text:
            raise ValueError("must not be empty")
        return text


class Protocols(types.List):
    """Formats of Prometheus's targets, each once, and at least one."""

    def __init__(self) -> None:
        super().__init__(types.String(choices=list(SCRAPE_PROTOCOLS)), type_name="list of formats")

    def __call__(self, value: Any) -> list[str]:
        """Return the formats' names; a ValueError says what is wrong."""
        found: list[str] = super().__call__(value)
        if not found:
            raise ValueError(f"must name one of {', '.join(SCRAPE_PROTOCOLS)}, or several")
        if len(set(found)) < len(found):
            raise ValueError("must not name a format twice")
        return found


class Listen(types.String):
    """An address to listen on, or an empty text: nowhere."""

    def __call__(self, value: Any) -> str:
        """Return the address as it is written; a ValueError says what is wrong."""
        text = str(super().__call__(value)).strip()
        return str(ListenAddress.parse(text)) if text else ""


NAMESPACES = ("central", "compute", "ipmi")

LIBVIRT_URIS = {
    "kvm": "qemu:///system",
    "lxc": "lxc:///system",
    "parallels": "parallels:///system",
    "qemu": "qemu:///system",
    "uml": "uml:///system",
    "xen": "xen:///system",
}

_DEFAULT_OPTS = [
    cfg.Opt(
        "host",
        type=Text(),
        sample_default="<this host's name>",
        help="This host's id: a part of the ids of what it has, and of the names of its groups.",
    ),
    cfg.ListOpt(
        "polling_namespaces",
        item_type=types.String(choices=NAMESPACES),
        default=["compute", "central"],
        help="Which pollsters run. There are none for ipmi here.",
    ),
    cfg.StrOpt(
        "pipeline_cfg_file",
        default="pipeline.yaml",
        help="The definition of where samples go, and until Mitaka of what is polled. Empty: "
        "none, as where no file of the default name is found.",
    ),
    cfg.StrOpt(
        "libvirt_uri",
        default="",
        help="The hypervisor connection; empty: the system's, by libvirt_type.",
    ),
    cfg.StrOpt(
        "libvirt_type",
        default="kvm",
        choices=sorted(LIBVIRT_URIS),
        help="The kind of hypervisor, where libvirt_uri is empty.",
    ),
]

_COORDINATION_OPTS = [
    cfg.StrOpt(
        "backend_url",
        secret=True,
        sample_default="<the embedded store of this host>",
        help="The store of the agents' groups, in tooz's spelling or ours. Without it, several "
        "agents of one host share their work, and other hosts are not seen.",
    ),
    cfg.Opt(
        "heartbeat",
        type=Seconds(0.01),
        default=1.0,
        help="Seconds between two heartbeats. Must be less than the lease; where it is not set, "
        "a third of a shorter lease takes its place.",
    ),
    cfg.Opt(
        "check_watchers",
        type=Seconds(0.0),
        default=10.0,
        help="Has no effect here: a change of the group is noticed when the store tells of it.",
    ),
    cfg.Opt(
        "retry_backoff",
        type=Seconds(0.0),
        default=1.0,
        help="Seconds before a store that is away at the start is tried again; the wait grows "
        "each time. 0: that is an error.",
    ),
    cfg.Opt(
        "max_retry_interval",
        type=Seconds(0.0),
        default=30.0,
        help="The longest such wait in seconds.",
    ),
]

_POLLING_OPTS = [
    cfg.StrOpt(
        "cfg_file",
        default="polling.yaml",
        help="The definition of what is polled, and how often. Empty: none, as where no file of "
        "the default name is found; then the pipeline's sources say it, if they do.",
    ),
    cfg.StrOpt(
        "partitioning_group_prefix",
        default="",
        deprecated_name="partitioning_group_prefix",
        deprecated_group="central",
        help="Agents with the same prefix share their work; agents with different ones must poll "
        "different meters.",
    ),
    cfg.Opt(
        "batch_size",
        type=Count(min=0, max=100_000),
        default=5000,
        help="How many samples are published together at most. 0: each by itself.",
    ),
    cfg.MultiStrOpt(
        "pollsters_definitions_dirs",
        default=["/etc/ceilometer/pollsters.d"],
        help="Folders with the definitions of dynamic pollsters: several times, or with commas "
        "between. The default one need not exist.",
    ),
]

_COMPUTE_OPTS = [
    cfg.BoolOpt(
        "workload_partitioning",
        default=False,
        help="Split the instances of a hypervisor connection that several compute agents share. "
        "Otherwise each compute agent polls its own host's.",
    ),
    cfg.StrOpt(
        "instance_discovery_method",
        default="libvirt_metadata",
        choices=["naive", "workload_partitioning", "libvirt_metadata"],
        help="How instances are found. workload_partitioning means the same as that option; in "
        "any case it is libvirt that tells the instances, not Nova.",
    ),
]

_HASHRING_OPTS = [
    cfg.Opt(
        "member",
        type=Text(),
        sample_default="<host and a random part>",
        help="This agent's id in every group: no two agents may have the same.",
    ),
    cfg.Opt(
        "ttl",
        type=Seconds(0.1),
        default=10.0,
        help="The lease: seconds after which the others may take over from an agent that is "
        "silent. The timeout in backend_url is the same thing.",
    ),
    cfg.StrOpt(
        "state_dir",
        sample_default="<$STATE_DIRECTORY, else the user's state folder>",
        help="The folder for the spool and for the embedded store.",
    ),
    cfg.Opt(
        "spool_bytes",
        type=Count(min=64 * 1024),
        default=256 * 1024 * 1024,
        help="How many bytes of samples are kept while their sinks are away, at most.",
    ),
    cfg.Opt(
        "threads",
        type=Count(min=1, max=1024),
        default=16,
        help="How many polls run at once, for each source, of pollsters that need a thread.",
    ),
    cfg.Opt(
        "max_in_flight",
        type=Count(min=1, max=20_000),
        default=1000,
        help="How many polls over HTTP run at once, of all sources. Each needs a file descriptor.",
    ),
    cfg.Opt(
        "max_per_host",
        type=Count(min=1, max=20_000),
        default=64,
        help="Over how many connections polls ask one host and port at once.",
    ),
    cfg.Opt(
        "scrape_protocols",
        type=Protocols(),
        default=",".join(Settings.scrape_protocols),
        help="The formats in which Prometheus's targets are asked for their metrics, the first one "
        "before the others.",
    ),
    cfg.Opt(
        "poll_timeout",
        type=Seconds(0.01),
        default=30.0,
        help="Seconds after which a poll is given up.",
    ),
    cfg.Opt(
        "spread",
        type=Fraction(),
        default=0.8,
        help="The part of the interval over which polls are spread. 0: all at its start.",
    ),
    cfg.StrOpt(
        "on_crash",
        default="repeat",
        choices=["repeat", "skip"],
        help="What is done about the interval in which a dead agent's share is taken over.",
    ),
    cfg.Opt(
        "drain_timeout",
        type=Seconds(0.01),
        default=30.0,
        help="Seconds that an agent may take to end: for the polls in hand, the hand-over and the "
        "samples that wait.",
    ),
    cfg.Opt(
        "interval",
        type=Seconds(0.01),
        default=60.0,
        help="Seconds between two polls, where no definition says so.",
    ),
    cfg.Opt(
        "output",
        type=Text(),
        default="stdout://",
        help="The publisher of samples, where there is no pipeline definition.",
    ),
    cfg.BoolOpt(
        "allow_overlap",
        default=False,
        help="Start although another sub-group polls some of the same meters.",
    ),
    cfg.StrOpt(
        "status_file",
        sample_default="<none>",
        help="The file in which the agent keeps its status, as JSON.",
    ),
    cfg.Opt(
        "listen",
        type=Listen(),
        sample_default="<none>",
        help="Where the agent serves its page (/ring), its metrics (/metrics), /livez and /readyz: "
        "HOST:PORT or unix:/PATH. Several workers take the ports after it, or paths with a number.",
    ),
    cfg.StrOpt(
        "token",
        default="",
        secret=True,
        help="Whoever sends it may drain and evict members and freeze groups by the page. Empty, "
        "and without token_file: nobody may change anything there.",
    ),
    cfg.StrOpt(
        "token_file",
        sample_default="<none>",
        help="The file that has the token, instead; it is read anew each time.",
    ),
]

SECTIONS: Mapping[str, Sequence[cfg.Opt]] = {
    "DEFAULT": _DEFAULT_OPTS,
    "coordination": _COORDINATION_OPTS,
    "polling": _POLLING_OPTS,
    "compute": _COMPUTE_OPTS,
    "hashring": _HASHRING_OPTS,
}

# Sections that are looked at whole. [DEFAULT] is full of other services' options.
OWN_SECTIONS = ("central", "compute", "coordination", "hashring", "polling")

NOVA = "it is libvirt that tells the instances, not Nova"
_NO_KEYSTONE = "agents do not ask Keystone"
_EXPORTER = "a prometheus:// publisher exports samples"

# Options of Ceilometer that have no effect here, and why. Of one that is not here, the present
# release's list (ceilometer.py) tells that it is one.
WITHOUT_EFFECT: Mapping[tuple[str, str], str] = {
    ("coordination", "check_watchers"): "a change is noticed when the store tells of it",
    ("polling", "enable_notifications"): "samples go to the publishers of the pipeline",
    ("polling", "enable_prometheus_exporter"): _EXPORTER,
    ("polling", "heartbeat_socket_dir"): "the status file and systemd's watchdog tell of health",
    ("polling", "identity_name_discovery"): _NO_KEYSTONE,
    ("polling", "ignore_disabled_projects"): _NO_KEYSTONE,
    ("polling", "prometheus_listen_addresses"): _EXPORTER,
    ("polling", "prometheus_tls_certfile"): _EXPORTER,
    ("polling", "prometheus_tls_enable"): _EXPORTER,
    ("polling", "prometheus_tls_keyfile"): _EXPORTER,
    ("polling", "tenant_name_discovery"): _NO_KEYSTONE,
    ("polling", "threads_to_process_pollsters"): "see [hashring] threads",
    ("compute", "fetch_extra_metadata"): NOVA,
    ("compute", "report_stopped_instance_metrics"): "of an instance that is shut off, its state "
    "and what its flavor says are told",
    ("compute", "resource_cache_expiry"): NOVA,
    ("compute", "resource_update_interval"): "instances are found anew before each poll",
}


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return all options by section, for ``oslo-config-generator --namespace hashring``.

    >>> [section for section, _ in list_opts()]
    ['DEFAULT', 'coordination', 'polling', 'compute', 'hashring']
    """
    return [(section, list(opts)) for section, opts in SECTIONS.items()]


def known_options(section: str) -> set[str]:
    """Return the names of the options that are read in a section."""
    if section == "central":
        return {"partitioning_group_prefix"}
    return {opt.dest for opt in SECTIONS[section]}
