"""``hashring group``: look at groups from outside, with every driver, and steer them.

::

    commands    those that look: their arguments and exit codes
    steering    those that change something
    tables      what they print for people
    output      to a terminal, to a file, or as JSON

Exit codes: 0 nothing is wrong, 1 trouble was found, 2 what was asked for is wrong.
"""

from hashring.cli.group import steering
from hashring.cli.group.commands import group

__all__ = ["group", "steering"]
