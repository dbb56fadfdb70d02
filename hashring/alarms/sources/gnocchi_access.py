"""Where Gnocchi is, and who we are to it: as the settings say."""

from __future__ import annotations

import logging

from hashring.alarms.settings import Settings
from hashring.alarms.sources.gnocchi import Access, Place
from hashring.errors import BadArgument, MissingDependency

__all__ = ["access_to_gnocchi"]

log = logging.getLogger(__name__)


def access_to_gnocchi(settings: Settings) -> Access | None:
    """Return how Gnocchi is reached; ``None``: nothing says where it is."""
    if settings.has_credentials:
        try:
            from hashring.alarms.sources.keystone import Keystone  # its client library is an extra

            return Keystone(settings.config_files, settings.config_dirs, settings.gnocchi_url)
        except (MissingDependency, BadArgument) as error:
            # An aodh.conf has credentials whether or not there are such rules.
            log.warning("rules on Gnocchi are not evaluated with Keystone's tokens: %s", error)
    return None if settings.gnocchi_url is None else Place(settings.gnocchi_url)
