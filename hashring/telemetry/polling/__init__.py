"""Polls that run at once, each within its time, and what is done about those that do not end.

::

    runner     Runner: an agent's membership in one group, and its loops there
    loops      PollingLoop: one interval of one group, window by window
    polls      Polls: the polls of one cycle
    putting    the way of their samples into the outlet
    wants      Want: one pollster, for every source that wants what it tells
    catalogue  Catalogue: the resources that have been found, with their keys
    shared     Shared: what all runners of an agent have in common
    pool       Pool: calls that run at once, a thread each, each cut off at its deadline
    loop_pool  LoopPool: calls that wait on one event loop, each cut off at its deadline
    descriptors  how many polls may be in flight, as the system lets it
    failures   Failures: what failed, how often
    turns      TurnBackoff: what is left out for some turns because it failed
    tally      Tally: what was polled, for the status
    done       DoneWindows: what an agent that comes next need not poll again
    set_aside  SetAside: what is not polled for a while because it stopped an agent
    flights    Flights: which polls are in hand, where another process can read it
    judgement  which of them keeps an agent from running
    witness    Guard: the process that sees it, and tells the others

Imports ``config.plan``, ``delivery``, ``plugin``, ``model``, :mod:`hashring.partition`; no agent.
"""
