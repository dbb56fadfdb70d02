"""Make the tables of events: hashring_event, hashring_event_note.

It spells the columns, as a revision must: what the tables are today is said elsewhere.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MYSQL: dict[str, Any] = {"mysql_charset": "utf8", "mysql_engine": "InnoDB"}


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "hashring_event",
        sa.Column("message_id", sa.String(255), primary_key=True),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        **_MYSQL,
    )
    op.create_index("ix_hashring_event_received", "hashring_event", ["received"])
    op.create_table(
        "hashring_event_note",
        sa.Column("alarm_id", sa.String(128), primary_key=True),
        sa.Column("message_id", sa.String(255), primary_key=True),
        sa.Column("received", sa.BigInteger, nullable=False),
        **_MYSQL,
    )
    op.create_index(
        "ix_hashring_event_note_received", "hashring_event_note", ["received", "alarm_id"]
    )
    op.create_index("ix_hashring_event_note_message_id", "hashring_event_note", ["message_id"])


def downgrade() -> None:
    """Drop them, and all that stands in them."""
    for name in ("hashring_event_note", "hashring_event"):
        op.drop_table(name)
