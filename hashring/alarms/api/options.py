"""The API's settings from the files that evaluators read; sections and names are Aodh's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg, types

from hashring.alarms.api.settings import AUTH_MODES, APISettings
from hashring.telemetry.config.declared import Count
from hashring.telemetry.config.files import ConfigFiles

__all__ = ["SECTIONS", "list_opts", "load"]


def _opt(name: str, kind: Any, default: Any, help: str, **more: Any) -> cfg.Opt:
    return cfg.Opt(name, type=kind, default=default, help=help, **more)


SECTIONS: Mapping[str, Sequence[cfg.Opt]] = {
    "DEFAULT": (_opt("record_history", types.Boolean(), True, "Keep the history of changes."),),
    "api": (
        _opt(
            "auth_mode",
            types.String(choices=[*AUTH_MODES]),
            "keystone",
            "How the server knows who asks: by Keystone, by a file of passwords, or not at all.",
        ),
        _opt("project_alarm_quota", types.Integer(min=-1), -1, "Alarms of a project; -1: any."),
        _opt("user_alarm_quota", types.Integer(min=-1), -1, "Alarms of a user; -1: any."),
        _opt("alarm_max_actions", types.Integer(), -1, "URLs for each state; -1: any."),
        _opt("password_file", str, None, "Users and passwords, as htpasswd -B writes them."),
        _opt("admins", types.List(), [], "Users of that file who are administrators."),
        _opt("threads", Count(min=1, max=256), 8, "Requests at once."),
        _opt(
            "gnocchi_external_project_owner",
            str,
            "service",
            "The project that makes resources in Gnocchi for those of others, as Ceilometer's.",
        ),
        _opt("gnocchi_external_domain_name", str, "Default", "The domain of that project."),
    ),
}
"""The options that count here, by section."""


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for oslo.config's generator of sample files."""
    return [(section, list(opts)) for section, opts in SECTIONS.items()]


class _Files(ConfigFiles):
    sections = SECTIONS
    project = "aodh"


def load(
    config_files: Iterable[Path] = (), config_dirs: Iterable[Path] = (), **overrides: Any
) -> tuple[APISettings, list[str]]:
    """Return the settings of the API's server, and what an operator must know of the others.

    Args:
        config_files: such as ``/etc/aodh/aodh.conf``.
        config_dirs: folders of more.
        overrides: fields of :class:`APISettings`; ``None`` counts as not given.

    Raises:
        BadOption: a file cannot be read, or an option is ill-typed or out of its range.
    """
    read = _Files([*map(Path, config_files)], [*map(Path, config_dirs)], True)
    password_file = read.value("api", "password_file")
    values: dict[str, Any] = {
        "auth_mode": read.value("api", "auth_mode"),
        "config_files": tuple(read.files),
        "password_file": None if password_file is None else Path(password_file).expanduser(),
        "admins": frozenset(read.value("api", "admins")),
        "project_quota": read.value("api", "project_alarm_quota"),
        "user_quota": read.value("api", "user_alarm_quota"),
        "most_actions": read.value("api", "alarm_max_actions"),
        "record_history": read.value("DEFAULT", "record_history"),
        "threads": read.value("api", "threads"),
        "gnocchi_owner": read.value("api", "gnocchi_external_project_owner"),
        "gnocchi_owner_domain": read.value("api", "gnocchi_external_domain_name"),
    }
    values |= {name: value for name, value in overrides.items() if value is not None}
    notes = [
        f"{found.where} has no effect here: Aodh's default policies count"
        for found in read.all_given()
        if found.section == "oslo_policy"
    ]
    return APISettings(**values), notes
