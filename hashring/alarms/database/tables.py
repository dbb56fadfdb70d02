"""Tables: Aodh's four, column for column, and five of ours beside them.

Aodh's have the names, types and indexes that ``aodh-dbsync`` of release 23 makes, so that either
can work on the other's. Times are UTC without a zone there. Ours count microseconds since the
epoch: a whole number that every database compares exactly.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

__all__ = [
    "ALARM",
    "COUNTER",
    "EVENT",
    "HISTORY",
    "NOTE",
    "OURS",
    "OUTBOX",
    "QUOTA",
    "SAMPLE",
    "SIDE",
    "THEIRS",
    "metadata",
]


class _JSONText(sa.types.TypeDecorator[Any]):
    """JSON in a column of text, as Aodh keeps it."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Return the text."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """Return what the text says; one that was cut off as it is: its row must cost no other."""
        if value is None:
            return None
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value


def _timestamp() -> sa.types.TypeEngine[Any]:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


metadata = sa.MetaData()
_MYSQL: dict[str, Any] = {"mysql_charset": "utf8", "mysql_engine": "InnoDB"}

ALARM = sa.Table(
    "alarm",
    metadata,
    sa.Column("alarm_id", sa.String(128), primary_key=True),
    sa.Column("enabled", sa.Boolean),
    sa.Column("name", sa.Text),
    sa.Column("type", sa.String(50)),
    sa.Column("severity", sa.String(50)),
    sa.Column("description", sa.Text),
    sa.Column("timestamp", _timestamp()),
    sa.Column("user_id", sa.String(128)),
    sa.Column("project_id", sa.String(128)),
    sa.Column("state", sa.String(255)),
    sa.Column("state_reason", sa.Text),
    sa.Column("state_timestamp", _timestamp()),
    sa.Column("ok_actions", _JSONText),
    sa.Column("alarm_actions", _JSONText),
    sa.Column("insufficient_data_actions", _JSONText),
    sa.Column("repeat_actions", sa.Boolean),
    sa.Column("rule", _JSONText),
    sa.Column("time_constraints", _JSONText),
    sa.Column("evaluate_timestamp", sa.DateTime),
    sa.Index("ix_alarm_user_id", "user_id"),
    sa.Index("ix_alarm_project_id", "project_id"),
    sa.Index("ix_alarm_enabled", "enabled"),
    sa.Index("ix_alarm_type", "type"),
    **_MYSQL,
)

HISTORY = sa.Table(
    "alarm_history",
    metadata,
    sa.Column("event_id", sa.String(128), primary_key=True),
    sa.Column(
        "alarm_id",
        sa.String(128),
        sa.ForeignKey("alarm.alarm_id", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("on_behalf_of", sa.String(128)),
    sa.Column("project_id", sa.String(128)),
    sa.Column("user_id", sa.String(128)),
    sa.Column("type", sa.String(20)),
    sa.Column("detail", sa.Text),
    sa.Column("timestamp", _timestamp()),
    sa.Column("severity", sa.String(50)),
    sa.Index("ix_alarm_history_alarm_id", "alarm_id"),
    **_MYSQL,
)

QUOTA = sa.Table(
    "quota",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(128), nullable=False),
    sa.Column("resource", sa.String(50), nullable=False),
    sa.Column("limit", sa.Integer, nullable=False),
    sa.UniqueConstraint("project_id", "resource"),
    sa.Index("ix_quota_project_id_resource", "project_id", "resource"),
    **_MYSQL,
)

COUNTER = sa.Table(
    "alarm_counter",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column(
        "alarm_id",
        sa.String(128),
        sa.ForeignKey("alarm.alarm_id", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("project_id", sa.String(128), nullable=False),
    sa.Column("state", sa.String(128), nullable=False),
    sa.Column("value", sa.Integer, nullable=False),
    sa.UniqueConstraint("alarm_id", "project_id", "state"),
    sa.Index("ix_alarm_counter_alarm_id", "alarm_id"),
    sa.Index("ix_alarm_counter_state", "state"),
    sa.Index("ix_alarm_counter_project_id", "project_id"),
    **_MYSQL,
)

# No foreign key leads from ours to Aodh's: its programs delete alarms without knowing of these.
SIDE = sa.Table(
    "hashring_alarm",
    metadata,
    sa.Column("alarm_id", sa.String(128), primary_key=True),
    sa.Column("window_start", sa.BigInteger, nullable=False),  # of the newest evaluated window
    sa.Column("definition", _timestamp()),  # the alarm's timestamp that the past belongs to
    sa.Column(
        "past", _JSONText
    ),  # for each leaf of its rule, a letter for each of the last windows
    sa.Column("away", sa.Integer, nullable=False),  # windows in a row without an answer
    sa.Column("origin", sa.String(64)),  # "files", where it comes from one
    **_MYSQL,
)

OUTBOX = sa.Table(
    "hashring_outbox",
    metadata,
    sa.Column("key", sa.String(36), primary_key=True),
    sa.Column("alarm_id", sa.String(128), nullable=False),
    sa.Column("window_start", sa.BigInteger, nullable=False),
    sa.Column("sink", sa.String(255), nullable=False),  # scheme, host and port of the action
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("body", _JSONText, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_try", sa.BigInteger, nullable=False),
    sa.Column("done", sa.BigInteger),  # when it was delivered, or given up
    sa.Column("gave_up", sa.Boolean, nullable=False),
    sa.Column("last_error", sa.Text),
    sa.Index("ix_hashring_outbox_done", "done", "alarm_id"),
    **_MYSQL,
)

SAMPLE = sa.Table(
    "hashring_sample",
    metadata,
    sa.Column("meter", sa.String(255), primary_key=True),
    sa.Column("resource_id", sa.String(255), primary_key=True),
    sa.Column("length", sa.BigInteger, primary_key=True),  # of the window
    sa.Column("window_start", sa.BigInteger, primary_key=True),
    sa.Column("volume", sa.Double, nullable=False),
    sa.Index("ix_hashring_sample_window_start", "window_start"),
    **_MYSQL,
)

EVENT = sa.Table(
    "hashring_event",
    metadata,
    sa.Column("message_id", sa.String(255), primary_key=True),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("body", _JSONText, nullable=False),
    sa.Index("ix_hashring_event_received", "received"),
    **_MYSQL,
)

NOTE = sa.Table(
    "hashring_event_note",  # that an alarm is still to be evaluated for an event
    metadata,
    sa.Column("alarm_id", sa.String(128), primary_key=True),
    sa.Column("message_id", sa.String(255), primary_key=True),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Index("ix_hashring_event_note_received", "received", "alarm_id"),
    sa.Index("ix_hashring_event_note_message_id", "message_id"),
    **_MYSQL,
)

THEIRS = (ALARM, HISTORY, QUOTA, COUNTER)
OURS = (SIDE, OUTBOX, SAMPLE, EVENT, NOTE)
