"""The names under which the figures of one run are kept: known to who measures and who reports."""

OURS = "hashring: owned(list)"
OURS_KEYS = "hashring: owned(Keys)"
COMPAT = "hashring.compat.tooz: owned_by_self(list)"
TOOZ = "tooz: belongs_to_self"
TOUCH = "floor: touch every key"
HASH = "floor: hash every key in C"

KINDS = {
    "uuid": "UUIDs of 36 characters",
    "shuffled": "the same UUIDs, in random order in memory",
    "short": "short ids such as `r123`",
    "long": "long ids of 100 to 150 characters",
    "non-ascii": "non-ASCII ids",
}
"""The kinds of keys, in the order of the tables."""
