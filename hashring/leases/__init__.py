"""Leases by name on one driver: locks, leaders, and members that own no slots.

`leases.py` keeps them alive and says which were lost; `lock.py` makes locks of them. Nothing here
knows of rings or hand-overs: what is exclusive here is a name, by the store's own `join`.
"""
