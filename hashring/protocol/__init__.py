"""The hand-over: who may hold which slot, and from which window on.

Nothing here knows a clock, a thread, a socket or a store: readings, records and times come in as
arguments, and what is to be done comes out as values. Imports ``hashring.ring`` and
``hashring.errors`` alone. `docs/protocol.md` has the rules and why they hold.
"""
