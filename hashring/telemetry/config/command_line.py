"""Settings of an agent that is configured by its command line alone: defaults and limits.

Those of one that is configured by files are made by `options`.
"""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import quote

from hashring.errors import BadArgument
from hashring.page.token import Token
from hashring.telemetry.config.defaults import (
    default_group,
    default_member,
    embedded_url,
    user_state_folder,
)
from hashring.telemetry.errors import BadConfig
from hashring.telemetry.model.listen import ListenAddress
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host import machine

__all__ = ["BadConfig", "agent_settings", "default_url"]


def default_url() -> str:
    """Return the URL of the embedded store in the user's state folder, which is made if missing.

    Raises:
        MissingDependency: platformdirs is not installed.
        BadConfig: the folder cannot be made.
    """
    folder = user_state_folder("the default --backend-url")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadConfig(
            f"cannot make the state folder {str(folder)!r}: {error.strerror}; give --backend-url"
        ) from None
    return embedded_url(folder)


def agent_settings(
    *,
    backend_url: str | None = None,
    group: str | None = None,
    member: str | None = None,
    interval: float = 60.0,
    ttl: float = 10.0,
    cycles: int | None = None,
    output: str = "-",
    on_crash: str = "repeat",
    resources: tuple[str, ...] | None = None,
    status_file: Path | None = None,
    listen: str | None = None,
    token_file: Path | None = None,
) -> Settings:
    """Return the settings of an agent that is configured by its command line alone.

    It polls everything that it knows how to measure of this host, in one group.

    Args:
        backend_url: the store of the group; by default :func:`default_url`.
        group: agents of one group share their resources; by default
            :func:`~hashring.telemetry.config.defaults.default_group`.
        member: this agent's id in the group; another each time where none is given.
        interval: seconds between polls of a resource: the length of a window.
        ttl: seconds after which the others may take over from an agent that is silent.
        cycles: end after this many windows; ``None``: never.
        output: a file for the samples, appended to, or ``SCHEME://TARGET``; ``"-"`` is the
            standard output.
        on_crash: ``"repeat"`` or ``"skip"`` the window in which a dead agent's share is taken over.
        resources: poll these ids alone; ``None``: whatever is discovered.
        status_file: keep the agent's status here, as JSON; ``None``: nowhere.
        listen: serve the page and the metrics here; ``None``: nowhere.
        token_file: whoever sends the token in it may change something by the page.

    Raises:
        BadConfig: a value is out of its range.

    Example:
        >>> agent_settings(backend_url="memory://", interval=0)
        Traceback (most recent call last):
        ...
        hashring.telemetry.errors.BadConfig: --interval must be ...
    """
    _check_numbers(interval=interval, ttl=ttl, cycles=cycles)
    _check_texts(group=group, member=member, output=output)
    if on_crash not in ("repeat", "skip"):
        raise BadConfig(f"--on-crash must be 'repeat' or 'skip', not {on_crash!r}")
    return Settings(
        backend_url=backend_url if backend_url is not None else default_url(),
        group=group if group is not None else default_group(),
        member=member if member is not None else default_member(),
        host=machine.host_id(),
        interval=interval,
        ttl=ttl,
        cycles=cycles,
        output=_publisher_url(output),
        on_crash="skip" if on_crash == "skip" else "repeat",
        only=resources,
        status_file=status_file,
        listen=_address(listen),
        token_file=_token_file(token_file),
        retry_backoff=0.0,
        poll_timeout=interval,
    )


def _check_numbers(*, interval: float, ttl: float, cycles: int | None) -> None:
    for name, value in (("interval", interval), ("ttl", ttl)):
        if not (value > 0 and math.isfinite(value)):
            raise BadConfig(f"--{name} must be a positive number of seconds, not {value!r}")
    if cycles is not None and cycles < 1:
        raise BadConfig(f"--cycles must be at least 1, not {cycles!r}")


def _check_texts(**texts: str | None) -> None:
    for name, text in texts.items():
        if text == "":
            raise BadConfig(f"--{name} must not be empty")


def _address(listen: str | None) -> str | None:
    try:
        return None if listen is None else str(ListenAddress.parse(listen))
    except ValueError as error:
        raise BadConfig(f"--listen {listen!r}: {error}") from None


def _token_file(file: Path | None) -> Path | None:
    try:
        Token.of("", file)
    except BadArgument as error:
        raise BadConfig(f"--token-file: {error}") from None
    return file


def _publisher_url(output: str) -> str:
    if output == "-":
        return "stdout://"
    return output if "://" in output else f"file://{quote(str(Path(output).absolute()))}"
