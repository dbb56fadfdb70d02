"""Steer a group from outside: ask a member to leave, or end the lease of one that is dead.

::

    operator    Operator: what can be done, and what came of it
    asking      a request in the store, for as long as it is asked
    eviction    who heartbeats, who may still hold something, and how a lease is ended

It takes the right to write to the store. Every member logs who asked.
"""

from hashring.steer.operator import Operator
from hashring.steer.outcome import Outcome

__all__ = ["Operator", "Outcome"]
