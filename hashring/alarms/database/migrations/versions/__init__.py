"""The revisions of our tables, each a file; see alembic's documentation."""
