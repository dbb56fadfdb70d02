"""Options: what an agent's configuration files may say, by oslo.config, and Settings from them.

The sections and names are Ceilometer's, so that an operator can point an agent at the
``ceilometer.conf`` that is there; what is ours alone stands in ``[hashring]``. In the sections
that agents read, what looks like a typo of an option is an error, and what has no effect is named
in the log; other sections are other services' business. Where files are, and how their values
become settings, is this module's; what polling.yaml and pipeline.yaml say is not.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from oslo_config import cfg, iniparser, types

from hashring import driver
from hashring.errors import BadURL, MissingDependency, UnknownDriver
from hashring.telemetry.config import ceilometer
from hashring.telemetry.config.backend_url import BadOption, is_embedded, translate_backend_url
from hashring.telemetry.config.suggestions import closest
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host import machine
from hashring.url import looks_secret, masked

__all__ = ["BadOption", "is_embedded", "list_opts", "load", "translate_backend_url"]

log = logging.getLogger(__name__)

SYSTEM_FOLDER = Path("/etc/ceilometer")

_YEAR = 366 * 86_400.0


def _is(kind: type[int] | type[float], value: Any) -> bool:
    """Whether a value is, or spells, a number of this kind."""
    try:
        return not math.isnan(kind(value))
    except (ValueError, TypeError, OverflowError):
        return False


class _Seconds(types.Float):
    """A finite number of seconds in a range."""

    def __init__(self, minimum: float, maximum: float = _YEAR) -> None:
        super().__init__(min=minimum, max=maximum, type_name="number of seconds")

    def __call__(self, value: Any) -> float:
        if not _is(float, value):
            raise ValueError("must be a number of seconds")
        return float(super().__call__(value) or 0)


class _Fraction(types.Float):
    """A number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__(min=0.0, max=1.0, type_name="number from 0 to 1")

    def __call__(self, value: Any) -> float:
        if not _is(float, value):
            raise ValueError("must be a number from 0 to 1")
        return float(super().__call__(value) or 0)


class _Count(types.Integer):
    """A whole number in a range; unlike oslo.config's, never nothing."""

    def __call__(self, value: Any) -> int:
        if isinstance(value, bool | float) or not _is(int, value):
            raise ValueError("must be a whole number")
        return int(super().__call__(value) or 0)


class _Text(types.String):
    """A text that is not empty."""

    def __call__(self, value: Any) -> str:
        text = str(super().__call__(value)).strip()
        if not text:
            raise ValueError("must not be empty")
        return text


_NAMESPACES = ("central", "compute", "ipmi")

_LIBVIRT_URIS = {
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
        type=_Text(),
        sample_default="<this host's name>",
        help="This host's id: a part of the ids of what it has, and of the names of its groups.",
    ),
    cfg.ListOpt(
        "polling_namespaces",
        item_type=types.String(choices=_NAMESPACES),
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
        choices=sorted(_LIBVIRT_URIS),
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
        type=_Seconds(0.01),
        default=1.0,
        help="Seconds between two heartbeats. Must be less than the lease; where it is not set, "
        "a third of a shorter lease takes its place.",
    ),
    cfg.Opt(
        "check_watchers",
        type=_Seconds(0.0),
        default=10.0,
        help="Has no effect here: a change of the group is noticed when the store tells of it.",
    ),
    cfg.Opt(
        "retry_backoff",
        type=_Seconds(0.0),
        default=1.0,
        help="Seconds before a store that is away at the start is tried again; the wait grows "
        "each time. 0: that is an error.",
    ),
    cfg.Opt(
        "max_retry_interval",
        type=_Seconds(0.0),
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
        type=_Count(min=0, max=100_000),
        default=50,
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
        type=_Text(),
        sample_default="<host and a random part>",
        help="This agent's id in every group: no two agents may have the same.",
    ),
    cfg.Opt(
        "ttl",
        type=_Seconds(0.1),
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
        type=_Count(min=64 * 1024),
        default=256 * 1024 * 1024,
        help="How many bytes of samples are kept while their sinks are away, at most.",
    ),
    cfg.Opt(
        "threads",
        type=_Count(min=1, max=1024),
        default=16,
        help="How many polls run at once, for each source.",
    ),
    cfg.Opt(
        "poll_timeout",
        type=_Seconds(0.01),
        default=30.0,
        help="Seconds after which a poll is given up.",
    ),
    cfg.Opt(
        "spread",
        type=_Fraction(),
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
        type=_Seconds(0.01),
        default=30.0,
        help="Seconds that an agent may take to end: for the polls in hand, the hand-over and the "
        "samples that wait.",
    ),
    cfg.Opt(
        "interval",
        type=_Seconds(0.01),
        default=60.0,
        help="Seconds between two polls, where no definition says so.",
    ),
    cfg.Opt(
        "output",
        type=_Text(),
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
]

_SECTIONS: Mapping[str, Sequence[cfg.Opt]] = {
    "DEFAULT": _DEFAULT_OPTS,
    "coordination": _COORDINATION_OPTS,
    "polling": _POLLING_OPTS,
    "compute": _COMPUTE_OPTS,
    "hashring": _HASHRING_OPTS,
}

# Sections that are looked at whole. [DEFAULT] is full of other services' options.
_OWN_SECTIONS = ("central", "compute", "coordination", "hashring", "polling")

_NOVA = "it is libvirt that tells the instances, not Nova"
_NO_KEYSTONE = "agents do not ask Keystone"
_EXPORTER = "a prometheus:// publisher exports samples"

# Options of Ceilometer that have no effect here, and why. Of one that is not here, the present
# release's list (ceilometer.py) tells that it is one.
_WITHOUT_EFFECT: Mapping[tuple[str, str], str] = {
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
    ("compute", "fetch_extra_metadata"): _NOVA,
    ("compute", "report_stopped_instance_metrics"): "of an instance that is shut off, its state "
    "and what its flavor says are told",
    ("compute", "resource_cache_expiry"): _NOVA,
    ("compute", "resource_update_interval"): "instances are found anew before each poll",
}

# The settings that an option of the same kind of value stands for.
_OPTION_OF: Mapping[str, tuple[str, str]] = {
    "host": ("DEFAULT", "host"),
    "retry_backoff": ("coordination", "retry_backoff"),
    "max_retry_interval": ("coordination", "max_retry_interval"),
    "heartbeat": ("coordination", "heartbeat"),
    "group_prefix": ("polling", "partitioning_group_prefix"),
    "batch_size": ("polling", "batch_size"),
    **{
        name: ("hashring", name)
        for name in (
            *("ttl", "spool_bytes", "threads", "poll_timeout", "spread", "on_crash", "member"),
            *("drain_timeout", "interval", "output", "allow_overlap", "status_file", "state_dir"),
        )
    },
}

# The types of settings that only the command line has.
_TYPE_OF: Mapping[str, Callable[[Any], Any]] = {
    "cycles": _Count(min=1),
    "group": _Text(),
    "only": tuple,
    "patience": _Seconds(0.0),
}


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return all options by section, for ``oslo-config-generator --namespace hashring``.

    >>> [section for section, _ in list_opts()]
    ['DEFAULT', 'coordination', 'polling', 'compute', 'hashring']
    """
    return [(section, list(opts)) for section, opts in _SECTIONS.items()]


def load(
    config_files: Iterable[Path | str] = (),
    config_dirs: Iterable[Path | str] = (),
    *,
    environment: bool = True,
    **overrides: Any,
) -> Settings:
    """Return an agent's settings from configuration files, the environment and the command line.

    What comes later wins: defaults, the files in order, the ``*.conf`` of each folder in the order
    of their names, environment variables ``OS_SECTION__OPTION``, overrides.

    Args:
        config_files: such as ``/etc/ceilometer/ceilometer.conf``.
        config_dirs: folders of more.
        environment: environment variables count.
        overrides: fields of :class:`~hashring.telemetry.model.settings.Settings`; ``None`` counts
        as
            not given. A ``backend_url`` here is in our spelling, a file's or the environment's in
            tooz's. Unless a member is given, each call makes another: on a reload, pass it on.

    Raises:
        BadOption: a file cannot be read, or an option is unknown, ill-typed, out of its range, or
            contradicts another; the message names file, line, section, option and value.
        MissingDependency: the store's client library, or platformdirs, is not installed.

    Example:
        >>> settings = load(environment=False, backend_url="memory://", ttl=3, host="web1")
        >>> settings.ttl, settings.heartbeat, settings.namespaces
        (3.0, 1.0, ('central', 'compute'))
        >>> load(environment=False, spread=2)
        Traceback (most recent call last):
        hashring.telemetry.config.backend_url.BadOption: --spread = 2: ...
    """
    fields = {field.name for field in dataclasses.fields(Settings)}
    if unknown := set(overrides) - (fields - {"config_files", "config_dirs"}):
        raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
    files = tuple(_expanded(path).absolute() for path in config_files)
    folders = tuple(_expanded(path).absolute() for path in config_dirs)
    given = {name: value for name, value in overrides.items() if value is not None}
    read = _Read(files, folders, environment)
    read.refuse_unknown()
    read.refuse_two_prefixes()

    values: dict[str, Any] = {"config_files": files, "config_dirs": folders}
    values |= {name: _checked(name, given[name]) for name in _TYPE_OF if name in given}
    for name, (section, option) in _OPTION_OF.items():
        values[name] = _checked(name, given[name]) if name in given else read.value(section, option)
    values["host"] = values["host"] or machine.host_id()
    values["member"] = values["member"] or f"{values['host']}-{uuid.uuid4().hex[:8]}"
    values["batch_size"] = max(1, values["batch_size"])
    values["status_file"] = _path(values["status_file"])
    values["state_dir"] = _path(values["state_dir"]) or _state_folder(environment)
    values["namespaces"] = _namespaces(read, given)
    values["workload_partitioning"] = _partitioning(read, given)
    values["libvirt_uri"] = _libvirt_uri(read, given)
    values["polling_file"] = _definition("polling_file", "polling", "cfg_file", read, given)
    values["pipeline_file"] = _definition(
        "pipeline_file", "DEFAULT", "pipeline_cfg_file", read, given
    )
    values["definition_dirs"] = _definition_folders(read, given)
    values |= _store(read, given, values)
    _check_retries(read, given, values)
    return Settings(**values)


class _Given(NamedTuple):
    """An option as it stands in a file."""

    section: str
    name: str
    text: str
    file: Path
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}: [{self.section}] {self.name}"


class _Lines(iniparser.BaseParser):
    """Reads a file as oslo.config does, and keeps the lines where options begin."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: list[_Given] = []
        self._section: str | None = None
        self._line = 0

    def new_section(self, section: str) -> None:
        self._section = _section_name(section)

    def _split_key_value(self, line: str) -> tuple[str, list[str]]:
        self._line = self.lineno
        return super()._split_key_value(line)

    def assignment(self, key: str, value: list[str]) -> None:
        if self._section is None:
            raise iniparser.ParseError("no section has begun before this", self._line, key)
        text = "\n".join(value)
        self.found.append(_Given(self._section, key, text, self.file, self._line))


def _section_name(section: str) -> str:
    return section if section == "DEFAULT" else section.lower()


class _Read:
    """The files and the environment: what they give, where, and its values."""

    def __init__(self, files: Sequence[Path], folders: Sequence[Path], environment: bool) -> None:
        self.folders = folders
        self.files = [*files, *(file for folder in folders for file in _in_folder(folder))]
        self.environment = os.environ if environment else {}
        self._found = [found for file in self.files for found in _parsed(file)]
        self._conf = cfg.ConfigOpts()
        for section, opts in _SECTIONS.items():
            self._conf.register_opts(opts, group=None if section == "DEFAULT" else section)
        try:
            self._conf(
                args=[],
                project="ceilometer",
                default_config_files=[str(file) for file in self.files],
                default_config_dirs=[],
                use_env=environment,
            )
        except cfg.Error as error:
            raise BadOption(f"the configuration cannot be used: {error}") from None

    def variable(self, section: str, option: str) -> str | None:
        """Return the environment variable that gives an option, or ``None``."""
        name = f"OS_{section.upper()}__{option.upper()}"
        return name if name in self.environment else None

    def given(self, section: str, option: str) -> _Given | None:
        """Return where a file gives an option, the last one that does."""
        sections = {section, "central"} if option == "partitioning_group_prefix" else {section}
        found = [one for one in self._found if one.section in sections and one.name == option]
        return found[-1] if found else None

    def is_given(self, section: str, option: str) -> bool:
        return bool(self.variable(section, option) or self.given(section, option))

    def where(self, section: str, option: str) -> str:
        """Return where an option is given, or its name where it is not."""
        if variable := self.variable(section, option):
            return f"environment: {variable}"
        found = self.given(section, option)
        return found.where if found else f"[{section}] {option}"

    def place(self, section: str, option: str) -> str:
        """Return where an option's value comes from, and the value, for a message."""
        if variable := self.variable(section, option):
            return f"environment: {variable} = {_masked(option, self.environment[variable])}"
        if found := self.given(section, option):
            return f"{found.where} = {_masked(option, found.text)}"
        return f"[{section}] {option} = {self.value(section, option)!r}, the default"

    def value(self, section: str, option: str) -> Any:
        """Return an option's value, of its type.

        Raises:
            BadOption: it is of another, or out of range.
        """
        scope = self._conf if section == "DEFAULT" else self._conf[section]
        try:
            return scope[option]
        except (cfg.Error, ValueError) as error:
            unresolved = (cfg.NoSuchOptError, cfg.TemplateSubstitutionError)
            if isinstance(error, unresolved) or isinstance(error.__context__, unresolved):
                # What stands after the sign may be a part of a secret.
                problem = "refers to an option that there is not: a dollar sign is written $$"
            else:
                # The type's own words, without what oslo.config says around them.
                problem = str(error.__context__ or error)
            raise BadOption(f"{self.place(section, option)}: {problem}") from None

    def values(self, section: str, option: str) -> list[str]:
        """Return the values of an option that may be given several times."""
        # oslo.config would take the letters of an environment variable for its values.
        if variable := self.variable(section, option):
            return [self.environment[variable]]
        return list(self.value(section, option))

    def refuse_unknown(self) -> None:
        """Refuse what looks like a typo; name what has no effect.

        As to Ceilometer, an option that is like no other is no error: an older or a newer release
        may have it. In ``[hashring]``, which is ours alone, it is.

        Raises:
            BadOption: an option in one of our sections is unknown.
        """
        named: dict[tuple[str, str], tuple[str, str]] = {}
        for found in self._found:
            if found.section in _OWN_SECTIONS:
                named[found.section, found.name] = found.where, _masked(found.name, found.text)
        for variable, text in self.environment.items():
            section, _, option = variable.removeprefix("OS_").lower().partition("__")
            if variable.startswith("OS_") and section in _OWN_SECTIONS and option:
                if section == "central":
                    # oslo.config knows an option's old place in files alone.
                    raise BadOption(
                        f"environment: {variable} is not looked at: set "
                        f"OS_POLLING__{option.upper()}"
                    )
                named[section, option] = f"environment: {variable}", _masked(option, text)
        for (section, option), (where, shown) in named.items():
            if reason := _WITHOUT_EFFECT.get((section, option)):
                log.warning("%s has no effect here: %s", where, reason)
            elif option in _known(section):
                continue
            elif option in ceilometer.OPTIONS.get(section, ()):
                log.warning("%s has no effect here: there is nothing like it", where)
            elif (suggestion := _meant(section, option)) or section == "hashring":
                known = suggestion or f"; [{section}] has: {', '.join(sorted(_known(section)))}"
                raise BadOption(f"{where} = {shown}: unknown option{known}")
            else:
                log.warning("%s is unknown, and is ignored", where)

    def refuse_two_prefixes(self) -> None:
        """Refuse a prefix in its old and in its new section that is not the same.

        Raises:
            BadOption: there are two.
        """
        last: dict[str, _Given] = {}
        for found in self._found:
            if found.name == "partitioning_group_prefix":
                last[found.section] = found
        old, new = last.get("central"), last.get("polling")
        if old and new and old.text != new.text:
            raise BadOption(
                f"{new.where} = {new.text!r} contradicts {old.where} = {old.text!r}, which is the "
                "option's old place: remove the old one"
            )


def _known(section: str) -> set[str]:
    if section == "central":
        return {"partitioning_group_prefix"}
    return {opt.dest for opt in _SECTIONS[section]}


def _meant(section: str, option: str) -> str:
    """Return the option that was meant, for a message; empty where none is like it."""
    here = _known(section) | ceilometer.OPTIONS.get(section, frozenset())
    if found := closest(option, here):
        return f" (did you mean {found!r}?)"
    places: dict[str, str] = {}
    for own in _OWN_SECTIONS:
        for name in _known(own):
            places.setdefault(name, own)
    found = closest(option, places)
    return f" (did you mean [{places[found]}] {found}?)" if found else ""


def _masked(option: str, text: str) -> str:
    """Return a value for a message, without what may be a secret."""
    return "'***'" if looks_secret(option) else repr(masked(text))


def _in_folder(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.match("*.conf"))
    except OSError as error:
        raise BadOption(f"--config-dir {folder}: cannot be read: {error.strerror}") from None


def _parsed(file: Path) -> list[_Given]:
    lines = _Lines(file)
    try:
        lines.parse(file.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise BadOption(f"--config-file {file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadOption(f"--config-file {file}: not UTF-8 at byte {error.start}") from None
    except iniparser.ParseError as error:
        # Without the line itself: there may be a secret in it.
        raise BadOption(f"{file}:{error.lineno}: {error.msg}") from None
    return lines.found


def _checked(field: str, value: Any) -> Any:
    """Return an override, of its option's type."""
    kind = _TYPE_OF.get(field)
    if kind is None:
        section, option = _OPTION_OF[field]
        [kind] = [opt.type for opt in _SECTIONS[section] if opt.dest == option]
    if isinstance(value, Path):
        return value
    try:
        return kind(value)
    except ValueError as error:
        raise BadOption(f"{_flag(field)} = {value!r}: {error}") from None


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _path(value: Any) -> Path | None:
    return _expanded(value) if value else None


def _expanded(text: str | Path) -> Path:
    """Return a path with a leading ``~`` as the home folder, if there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _state_folder(environment: bool) -> Path:
    # systemd's StateDirectory=; of several folders, the first is ours.
    if environment and (named := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]):
        return Path(named)
    try:
        import platformdirs
    except ImportError as error:  # pragma: no cover - the tests of the wheel run without it
        raise MissingDependency("the default state folder", "platformdirs", "telemetry") from error
    return Path(platformdirs.user_state_path("hashring", appauthor=False))


def _namespaces(read: _Read, given: Mapping[str, Any]) -> tuple[str, ...]:
    if "namespaces" in given:
        names = set(given["namespaces"])
        where = f"--namespaces = {','.join(sorted(names))!r}"
    else:
        names = set(read.value("DEFAULT", "polling_namespaces"))
        where = read.place("DEFAULT", "polling_namespaces")
    if names.difference(_NAMESPACES):
        raise BadOption(f"{where}: must be of {', '.join(_NAMESPACES)}")
    if "ipmi" in names:
        log.warning("%s: there are no pollsters for ipmi here", where)
    if not names - {"ipmi"}:
        raise BadOption(f"{where}: name central, compute or both")
    return tuple(sorted(names - {"ipmi"}))


def _partitioning(read: _Read, given: Mapping[str, Any]) -> bool:
    method = read.value("compute", "instance_discovery_method")
    if method == "naive":
        log.warning("%s: %s", read.place("compute", "instance_discovery_method"), _NOVA)
    split = read.value("compute", "workload_partitioning")
    return bool(given.get("workload_partitioning", split or method == "workload_partitioning"))


def _libvirt_uri(read: _Read, given: Mapping[str, Any]) -> str:
    uri = given.get("libvirt_uri") or read.value("DEFAULT", "libvirt_uri")
    return str(uri or _LIBVIRT_URIS[read.value("DEFAULT", "libvirt_type")])


def _definition(
    field: str, section: str, option: str, read: _Read, given: Mapping[str, Any]
) -> Path | None:
    """Return where a definition lies; ``None`` where none is named and none is found."""
    if field in given:
        path = _expanded(given[field])
        if not _is_file(path):
            raise BadOption(f"{_flag(field)} = {str(path)!r}: there is no such file")
        return path
    text = (read.value(section, option) or "").strip()
    if not text:
        return None
    tried = _candidates(_expanded(text), read)
    for path in tried:
        if _is_file(path):
            return path
    if not read.is_given(section, option):
        return None
    raise BadOption(
        f"{read.place(section, option)}: there is no such file; looked for "
        f"{', '.join(str(path) for path in tried)}"
    )


def _candidates(path: Path, read: _Read) -> list[Path]:
    """Return where a file may lie that a configuration names, in Ceilometer's order."""
    if path.is_absolute():
        return [path]
    folders = [*read.folders, *(file.parent for file in reversed(read.files)), SYSTEM_FOLDER]
    return [folder / path for folder in dict.fromkeys(folders)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _definition_folders(read: _Read, given: Mapping[str, Any]) -> tuple[Path, ...]:
    option = ("polling", "pollsters_definitions_dirs")
    if "definition_dirs" in given:
        names, where = [str(path) for path in given["definition_dirs"]], "--definition-dirs"
    else:
        texts = ",".join(read.values(*option)).split(",")
        names = [text.strip() for text in texts if text.strip()]
        where = read.place(*option) if read.is_given(*option) else ""
    found = []
    for name in dict.fromkeys(names):
        tried = _candidates(_expanded(name), read)
        folder = next((path for path in tried if path.is_dir()), None)
        if folder is not None:
            found.append(folder)
        elif where:
            raise BadOption(f"{where}: there is no folder {name!r}")
    return tuple(found)


def _check_retries(read: _Read, given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    if values["retry_backoff"] <= values["max_retry_interval"]:
        return
    section = "coordination"
    first, longest = (
        f"{_flag(name)} = {values[name]:g}" if name in given else read.place(section, name)
        for name in ("retry_backoff", "max_retry_interval")
    )
    if "retry_backoff" in given or read.is_given(section, "retry_backoff"):
        raise BadOption(f"{first}: must not be greater than {longest}")
    raise BadOption(f"{longest}: must not be less than {first}")


def _store(
    read: _Read, given: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, str | float | None]:
    """Return the settings of the store: its URL, the lease and the heartbeat."""
    heartbeat, ttl = float(values["heartbeat"]), float(values["ttl"])
    ttl_is_given = "ttl" in given or read.is_given("hashring", "ttl")
    option = ("coordination", "backend_url")
    lease: float | None = None
    if "backend_url" in given:
        url, where = str(given["backend_url"]), "--backend-url"
        if not ttl_is_given:
            ttl = _loaded(url, None, where).ttl
    elif text := (read.value(*option) or "").strip():
        variable, found = read.variable(*option), read.given(*option)
        where = ""  # where another source of oslo.config's gives it
        if variable:
            where = f"environment: {variable}"
        elif found:
            where = f"{found.file}:{found.line}"
        try:
            url, lease = translate_backend_url(text, heartbeat)
        except BadOption as error:
            raise BadOption(f"{where}: {error}" if where else str(error)) from None
    else:
        url = _embedded(values["state_dir"])
        where = f"the embedded store in the state folder {str(values['state_dir'])!r}"
    if lease is not None and "ttl" not in given:
        if ttl_is_given and lease != ttl:
            raise BadOption(
                f"{read.place('hashring', 'ttl')} contradicts the {lease:g} s in "
                f"{read.place(*option)}: both are the lease, so give one of them"
            )
        ttl = lease
    heartbeat_is_given = "heartbeat" in given or read.is_given("coordination", "heartbeat")
    if heartbeat_is_given and ttl <= heartbeat:
        shown = {
            name: f"--{name} = {value:g} s"
            if name in given
            else f"{read.where(section, name)} = {value:g} s"
            for section, name, value in (
                ("hashring", "ttl", ttl),
                ("coordination", "heartbeat", heartbeat),
            )
        }
        raise BadOption(
            f"{shown['ttl']} must be longer than {shown['heartbeat']}: "
            "after ttl a silent agent counts as dead"
        )
    _loaded(url, ttl, where)
    return {
        "backend_url": url,
        "ttl": ttl,
        "heartbeat": heartbeat if heartbeat_is_given or heartbeat <= ttl / 3 else None,
    }


def _embedded(folder: Path) -> str:
    return f"sqlite://{quote(str((folder / 'agents.db').absolute()))}"


def _loaded(url: str, ttl: float | None, where: str) -> driver.Driver:
    """Return the driver, not open, so that what is wrong with a URL is said here."""
    try:
        return driver.load(url, ttl=ttl)
    except (BadURL, UnknownDriver) as error:
        raise BadOption(f"{where}: {error}") from None
