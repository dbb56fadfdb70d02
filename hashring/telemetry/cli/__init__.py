"""The commands of the agents, and what they print. :mod:`hashring.cli.front` lists them.

::

    commands  ``hashring agent`` and its commands
    flags     the options that several of them have
    check     what ``hashring agent check`` prints
    spool     ``hashring agent spool``
    show      ``hashring show``: agents join, die and leave before your eyes
    audit     from samples alone: polls due, made, missed, repeated
"""
