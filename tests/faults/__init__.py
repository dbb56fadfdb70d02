"""Fault tests: real members on real stores, which are broken by a plan.

``python -m tests.faults --store redis --seconds 600`` is the long form: ``make faults``.
"""
