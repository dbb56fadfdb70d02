"""Sources: from a rule and a time to values.

A source is asked about a time of the window's own, never about now: whoever asks, in time, late or
again after a crash, gets the same answer.
"""
