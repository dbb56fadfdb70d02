"""Whether a moment lies in one of an alarm's time constraints. Pure: the moment is given."""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from croniter import CroniterBadDateError, croniter

from hashring.alarms.model import TimeConstraint

__all__ = ["is_in_time"]

_MINUTE = timedelta(minutes=1)


def is_in_time(constraints: Sequence[TimeConstraint], moment: float) -> bool:
    """Return whether a moment lies in any of the constraints; if there are none, it does.

    Args:
        constraints: of the alarm.
        moment: wall-clock seconds since the epoch.

    Example:
        >>> office = TimeConstraint(name="office", start="0 8 * * *", duration=8 * 3600)
        >>> is_in_time([office], 9 * 3600.0), is_in_time([office], 20 * 3600.0)
        (True, False)
    """
    if not constraints:
        return True
    now = datetime.fromtimestamp(moment, UTC)
    return any(_contains(constraint, now) for constraint in constraints)


def _contains(constraint: TimeConstraint, now: datetime) -> bool:
    zone = zoneinfo.ZoneInfo(constraint.timezone) if constraint.timezone else UTC
    here = now.astimezone(zone)
    try:
        # The last start that is not after now: croniter's own "previous" leaves out now itself.
        latest = croniter(constraint.start, here + _MINUTE).get_prev(datetime)
        while latest > here:
            latest = croniter(constraint.start, latest).get_prev(datetime)
    except CroniterBadDateError:
        return False  # the first start is still to come
    return bool(here <= latest + timedelta(seconds=constraint.duration))
