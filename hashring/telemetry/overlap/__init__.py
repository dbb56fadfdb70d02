"""What two agents poll in common: what each announces, and what is at odds.

::

    overlap        Announcement, Overlap: values, and what two announcements have in common
    groups         the groups of two agents of one prefix, against each other
    patterns       patterns of names against each other, in bounded work
    peer           what is read of another member's record
    announcements  Announcements: where agents announce themselves, and who is refused

Imports ``model``, ``errors`` and :mod:`hashring.partition`; not how anything is polled.
"""
