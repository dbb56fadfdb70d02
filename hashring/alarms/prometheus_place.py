"""Where Aodh would look for Prometheus: its client library's file and environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hashring.telemetry.errors import BadOption
from hashring.url import place

__all__ = ["Place", "prometheus_place"]

_FILES = (Path("~/.config/openstack/prometheus.yaml"), Path("/etc/openstack/prometheus.yaml"))


class Place(NamedTuple):
    """A Prometheus.

    Attributes:
        url: its address.
        ca_file: a file of authorities for it; ``None``: the usual ones.
    """

    url: str
    ca_file: str | None


def prometheus_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Return the place that the file or the environment names; ``None``: they name none.

    Args:
        environment: its variables win over the file.

    Raises:
        BadOption: the file cannot be used, or names no port.
    """
    given = _file()
    for name in ("host", "port", "ca_cert", "root_path"):
        if (found := environment.get(f"PROMETHEUS_{name.upper()}")) is not None:
            given[name] = found
    host, port = given.get("host"), given.get("port")
    if not host and not port:
        return None
    if not host or not str(port).isdecimal():
        raise BadOption(
            f"PROMETHEUS_HOST or the file prometheus.yaml: host {host!r} and port {port!r}: both "
            "are needed"
        )
    ca_file = given.get("ca_cert")
    scheme = "https" if ca_file else "http"
    root = str(given.get("root_path") or "").strip("/")
    url = f"{scheme}://{place(str(host).strip('[]'), int(str(port)))}"
    return Place(f"{url}/{root}" if root else url, ca_file or None)


def _file() -> dict[str, Any]:
    for path in (file.expanduser() for file in _FILES):
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadOption(f"{path}: cannot be read: {error}") from None
        if not isinstance(found, dict):
            raise BadOption(f"{path}: must be a mapping with host and port")
        return dict(found)
    return {}
