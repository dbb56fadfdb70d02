"""The face of a partition for an event loop: `ajoin`. The rules are those of the threads' face.

It drives the same objects (`Membership`, `Loops`, `Follower`, `Worker`), whose two threads
heartbeat and reconcile. A loop that is blocked therefore costs no lease. What waits here is woken
up by `waiter.py`; no await uses a thread but a join, a drain and a leave, which call the store.
"""
