"""Keystone: where a service is, and a token for it, by the credentials in ``aodh.conf``."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg

from hashring import clock
from hashring.alarms.errors import SourceAway
from hashring.errors import BadArgument, MissingDependency
from hashring.url import masked_prose

try:
    from keystoneauth1 import exceptions, loading
except ImportError as error:
    raise MissingDependency("[service_credentials]", "keystoneauth1", "gnocchi") from error

__all__ = ["Keystone"]

_SECTION = "service_credentials"
_KIND = "metric"
"""Gnocchi's type in the catalog of services."""


class Keystone:
    """Gnocchi by Keystone's catalog. May be used by several threads.

    Args:
        files: with the section ``[service_credentials]``, as Aodh has it.
        folders: of more files.
        url: of Gnocchi; ``None``: as the catalog says.

    Raises:
        BadArgument: the credentials are incomplete.
    """

    def __init__(
        self, files: Sequence[Path], folders: Sequence[Path], url: str | None = None
    ) -> None:
        conf = cfg.ConfigOpts()
        loading.register_auth_conf_options(conf, _SECTION)
        loading.register_session_conf_options(conf, _SECTION)
        conf.register_opts(
            [cfg.StrOpt("region_name"), cfg.StrOpt("interface", default="public")], _SECTION
        )
        try:
            conf(
                [],
                project="aodh",
                default_config_files=[str(path) for path in files],
                default_config_dirs=[str(path) for path in folders],
            )
            self._auth = loading.load_auth_from_conf_options(conf, _SECTION)
            self._session = loading.load_session_from_conf_options(conf, _SECTION, auth=self._auth)
        except (exceptions.ClientException, cfg.Error) as error:
            raise BadArgument(f"[{_SECTION}]: {masked_prose(str(error))}") from None
        section = conf[_SECTION]
        self._where = {"interface": section.interface, "region_name": section.region_name}
        self._url = url
        self._lock = threading.Lock()

    def endpoint(self, deadline: float) -> str:
        """Return the URL of Gnocchi.

        Raises:
            SourceAway: Keystone does not answer, or knows of none.
        """
        if self._url is None:
            found = self._asked(
                lambda: self._session.get_endpoint(service_type=_KIND, **self._where), deadline
            )
            if found is None:
                raise SourceAway(f"Keystone's catalog has no service of type {_KIND}")
            self._url = str(found)
        return self._url

    def headers(self, deadline: float) -> Mapping[str, str]:
        """Return the token, which is asked for again before it ends."""
        return {"X-Auth-Token": str(self._asked(self._session.get_token, deadline))}

    def refused(self) -> bool:
        """Forget the token: it was revoked. Return that a fresh one may do."""
        self._session.invalidate()
        return True

    def project_id(self, name: str, domain: str, deadline: float) -> str | None:
        """Return the id of a project; ``None``: Keystone knows of none that is called so.

        Args:
            name: of the project.
            domain: its domain's name.
            deadline: on the clock of :func:`hashring.clock.boottime`.

        Raises:
            SourceAway: Keystone does not answer, or refuses.
        """
        domain_id = self._id_of("domains", {"name": domain}, deadline)
        if domain_id is None:
            return None
        return self._id_of("projects", {"name": name, "domain_id": domain_id}, deadline)

    def _id_of(self, what: str, wanted: Mapping[str, str], deadline: float) -> str | None:
        where = {"service_type": "identity", "version": (3, 0), **self._where}

        def ask() -> Any:
            try:
                return self._session.get(f"/{what}", params=wanted, endpoint_filter=where).json()
            except exceptions.NotFound:
                return None

        try:
            found = (self._asked(ask, deadline) or {}).get(what) or []
            return str(found[0]["id"]) if found else None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            raise SourceAway(f"Keystone: its answer about {what} is damaged") from None

    def _asked(self, ask: Any, deadline: float) -> Any:
        with self._lock:  # those who wait then find the token
            self._session.timeout = max(0.1, deadline - clock.boottime())
            try:
                return ask()
            except exceptions.ClientException as error:
                raise SourceAway(f"Keystone: {masked_prose(str(error))}") from None
