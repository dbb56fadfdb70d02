"""What alembic runs: the revisions, on the connection and in the transaction that it is given."""

from alembic import context

# Only alembic gives it a configuration: whoever else imports this module runs nothing.
if getattr(context, "config", None) is not None:
    context.configure(
        connection=context.config.attributes["connection"],
        version_table=context.config.attributes["version_table"],
    )
    context.run_migrations()
