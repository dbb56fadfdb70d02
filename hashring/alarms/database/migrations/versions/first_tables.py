"""Make the first tables of ours: hashring_alarm, hashring_outbox, hashring_sample.

It spells the columns, as a revision must: what the tables are today is said elsewhere.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MYSQL: dict[str, Any] = {"mysql_charset": "utf8", "mysql_engine": "InnoDB"}


def upgrade() -> None:
    """Make them."""
    timestamp = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    op.create_table(
        "hashring_alarm",
        sa.Column("alarm_id", sa.String(128), primary_key=True),
        sa.Column("window_start", sa.BigInteger, nullable=False),
        sa.Column("definition", timestamp),
        sa.Column("past", sa.Text),
        sa.Column("away", sa.Integer, nullable=False),
        sa.Column("origin", sa.String(64)),
        **_MYSQL,
    )
    op.create_table(
        "hashring_outbox",
        sa.Column("key", sa.String(36), primary_key=True),
        sa.Column("alarm_id", sa.String(128), nullable=False),
        sa.Column("window_start", sa.BigInteger, nullable=False),
        sa.Column("sink", sa.String(255), nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try", sa.BigInteger, nullable=False),
        sa.Column("done", sa.BigInteger),
        sa.Column("gave_up", sa.Boolean, nullable=False),
        sa.Column("last_error", sa.Text),
        **_MYSQL,
    )
    op.create_index("ix_hashring_outbox_done", "hashring_outbox", ["done", "alarm_id"])
    op.create_table(
        "hashring_sample",
        sa.Column("meter", sa.String(255), primary_key=True),
        sa.Column("resource_id", sa.String(255), primary_key=True),
        sa.Column("length", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("window_start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("volume", sa.Double, nullable=False),
        **_MYSQL,
    )
    op.create_index("ix_hashring_sample_window_start", "hashring_sample", ["window_start"])


def downgrade() -> None:
    """Drop them, and all that stands in them."""
    for name in ("hashring_sample", "hashring_outbox", "hashring_alarm"):
        op.drop_table(name)
