"""What `make test` asks of a second deployment of a store whose first has the whole suite.

A driver reaches a cluster, an ensemble or another backend by the same calls. One test for each of
them shows that it does so there. The whole suite on it is part of `make test-long`.
"""

from __future__ import annotations

ESSENTIAL = frozenset(
    {
        "test_a_member_that_joins_is_read_by_all",
        "test_a_second_driver_cannot_join_as_a_living_member",
        "test_a_member_that_leaves_is_gone_at_once",
        "test_a_member_that_does_not_heartbeat_is_gone_after_its_lease_and_not_before",
        "test_a_member_that_heartbeats_lives_on",
        "test_a_lease_that_ran_out_is_reported_and_does_not_come_back",
        "test_after_its_lease_ran_out_a_member_joins_anew",
        "test_what_was_published_is_what_the_next_read_shows",
        "test_a_record_is_any_bytes_up_to_the_limit",
        "test_wait_wakes_for_a_change_while_it_waits",
        "test_changes_bring_what_changed_and_nothing_else",
        "test_the_groups_that_are_listed_are_those_with_members",
        "test_close_ends_every_thread",
        "test_a_secret_is_shown_nowhere",
    }
)
"""Names of tests of ``DriverSuite``, for a class's ``short_form``."""
