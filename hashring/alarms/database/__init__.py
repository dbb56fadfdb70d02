"""The alarms' database: the only package that knows SQL. Built on SQLAlchemy Core.

::

    tables         Aodh's four tables, and three of ours
    engine         opening: URLs, timeouts, SQLite's ways; errors as ours
    migrations/    the tables of ours, made and changed by alembic
    evaluations    what is due, and the one transaction of an alarm and a window
    notifications  the outbox
    definitions    alarms that come from files
    samples        the agents' samples, and their aggregates
"""
