"""URLs: parsed, spelled, and shown without their secrets; and the typed options behind the ``?``.

The only package that knows what a secret looks like, and the one reader of typed options, for
stores, sinks, targets, hypervisors and definitions alike. ``masking`` hides; ``options`` types;
``authority`` reads hosts and ports; ``store`` has the URL of a store.
"""

from hashring.url.authority import host_and_port, place
from hashring.url.masking import (
    HIDDEN,
    bears_secret,
    looks_secret,
    masked,
    masked_option,
    masked_prose,
    secrets_in,
    shown,
    without_secrets,
)
from hashring.url.options import (
    Option,
    boolean,
    count,
    flag,
    fraction,
    positive,
    read_options,
    seconds,
)
from hashring.url.store import DriverURL, check_node_path

__all__ = [
    "HIDDEN",
    "DriverURL",
    "Option",
    "bears_secret",
    "boolean",
    "check_node_path",
    "count",
    "flag",
    "fraction",
    "host_and_port",
    "looks_secret",
    "masked",
    "masked_option",
    "masked_prose",
    "place",
    "positive",
    "read_options",
    "seconds",
    "secrets_in",
    "shown",
    "without_secrets",
]
