"""Options: an agent's settings from its configuration files, the environment and the command line.

An operator can point an agent at the ``ceilometer.conf`` that is there. Which options there are
is said in `declared`, where they are given in `files`; here they become settings: where folders and
definitions are, which store it is, and what contradicts what. What polling.yaml and pipeline.yaml
say is not read here.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hashring import driver
from hashring.errors import BadArgument, BadURL, UnknownDriver
from hashring.page.token import Token
from hashring.telemetry.config.backend_url import is_embedded, translate_backend_url
from hashring.telemetry.config.declared import (
    LIBVIRT_URIS,
    NAMESPACES,
    NOVA,
    SECTIONS,
    Count,
    Seconds,
    Text,
    list_opts,
)
from hashring.telemetry.config.defaults import default_member, embedded_url, user_state_folder
from hashring.telemetry.config.files import ConfigFiles
from hashring.telemetry.errors import BadOption
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host import machine

__all__ = ["BadOption", "is_embedded", "list_opts", "load", "page_token", "translate_backend_url"]

log = logging.getLogger(__name__)

SYSTEM_FOLDER = Path("/etc/ceilometer")

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
            *("listen", "max_in_flight", "max_per_host", "scrape_protocols"),
            *("token", "token_file"),
        )
    },
}

# The types of settings that only the command line has.
_TYPE_OF: Mapping[str, Callable[[Any], Any]] = {
    "cycles": Count(min=1),
    "group": Text(),
    "only": tuple,
    "patience": Seconds(0.0),
}


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
            as not given. A ``backend_url`` here is in our spelling, a file's or the
            environment's in tooz's. Unless a member is given, each call makes another: on a
            reload, pass it on.

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
        hashring.telemetry.errors.BadOption: --spread = 2: ...
    """
    _refuse_unknown(overrides)
    files = tuple(_expanded(path).absolute() for path in config_files)
    folders = tuple(_expanded(path).absolute() for path in config_dirs)
    given = {name: value for name, value in overrides.items() if value is not None}
    read = ConfigFiles(files, folders, environment)
    read.refuse_unknown()
    read.refuse_two_prefixes()

    values = {"config_files": files, "config_dirs": folders, **_plain(read, given)}
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


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    fields = {field.name for field in dataclasses.fields(Settings)}
    if unknown := set(overrides) - (fields - {"config_files", "config_dirs"}):
        raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")


def _plain(read: ConfigFiles, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that one option each stands for, and those of the command line alone."""
    values = {name: _checked(name, given[name]) for name in _TYPE_OF if name in given}
    for name, (section, option) in _OPTION_OF.items():
        values[name] = _checked(name, given[name]) if name in given else read.value(section, option)
    values["host"] = values["host"] or machine.host_id()
    values["member"] = values["member"] or default_member(values["host"])
    values["batch_size"] = max(1, values["batch_size"])
    values["status_file"] = _path(values["status_file"])
    values["listen"] = values["listen"] or None
    values |= page_token(read, given)
    values["scrape_protocols"] = tuple(values["scrape_protocols"])
    return values


def page_token(read: ConfigFiles, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return who may steer the group by the page: the settings ``token`` and ``token_file``.

    A file that the command line names stands in place of whatever the files say.

    Args:
        read: the files.
        given: what the command line says.

    Raises:
        BadOption: the token is too short, its file cannot be read, or there are both. It is not
            shown.
    """
    if given.get("token_file") is not None:
        token, file, where = "", _path(given["token_file"]), "--token-file"
    else:
        token = given.get("token", read.value("hashring", "token"))
        file = _path(read.value("hashring", "token_file"))
        where = read.where("hashring", "token" if file is None else "token_file")
    try:
        Token.of(token, file)
    except BadArgument as error:
        raise BadOption(f"{where}: {error}") from None
    return {"token": token, "token_file": file}


def _checked(field: str, value: Any) -> Any:
    """Return an override, of its option's type."""
    kind = _TYPE_OF.get(field)
    if kind is None:
        section, option = _OPTION_OF[field]
        [kind] = [opt.type for opt in SECTIONS[section] if opt.dest == option]
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
    return user_state_folder("the default state folder")


def _namespaces(read: ConfigFiles, given: Mapping[str, Any]) -> tuple[str, ...]:
    if "namespaces" in given:
        names = set(given["namespaces"])
        where = f"--namespaces = {','.join(sorted(names))!r}"
    else:
        names = set(read.value("DEFAULT", "polling_namespaces"))
        where = read.place("DEFAULT", "polling_namespaces")
    if names.difference(NAMESPACES):
        raise BadOption(f"{where}: must be of {', '.join(NAMESPACES)}")
    if "ipmi" in names:
        log.warning("%s: there are no pollsters for ipmi here", where)
    if not names - {"ipmi"}:
        raise BadOption(f"{where}: name central, compute or both")
    return tuple(sorted(names - {"ipmi"}))


def _partitioning(read: ConfigFiles, given: Mapping[str, Any]) -> bool:
    method = read.value("compute", "instance_discovery_method")
    if method == "naive":
        log.warning("%s: %s", read.place("compute", "instance_discovery_method"), NOVA)
    split = read.value("compute", "workload_partitioning")
    return bool(given.get("workload_partitioning", split or method == "workload_partitioning"))


def _libvirt_uri(read: ConfigFiles, given: Mapping[str, Any]) -> str:
    uri = given.get("libvirt_uri") or read.value("DEFAULT", "libvirt_uri")
    return str(uri or LIBVIRT_URIS[read.value("DEFAULT", "libvirt_type")])


def _definition(
    field: str, section: str, option: str, read: ConfigFiles, given: Mapping[str, Any]
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


def _candidates(path: Path, read: ConfigFiles) -> list[Path]:
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


def _definition_folders(read: ConfigFiles, given: Mapping[str, Any]) -> tuple[Path, ...]:
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


def _check_retries(read: ConfigFiles, given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
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
    read: ConfigFiles, given: Mapping[str, Any], values: Mapping[str, Any]
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
        url = embedded_url(values["state_dir"])
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


def _loaded(url: str, ttl: float | None, where: str) -> driver.Driver:
    """Return the driver, not open, so that what is wrong with a URL is said here."""
    try:
        return driver.load(url, ttl=ttl)
    except (BadURL, UnknownDriver) as error:
        raise BadOption(f"{where}: {error}") from None
