"""Alarms: evaluated once a window, each change notified once, whoever dies.

From below to above::

    errors       what can go wrong
    problems     what is wrong with a definition, in words
    model        alarms, rules, states; typed, pure
    machine      from a window's values to the next state; pure
    schedule     time constraints; pure
    event        events, and which rule one hits; pure
    plugin       what the author of an action subclasses
    settings     what a program of ours is told; options reads it from files
    definitions  alarms in files
    database/    tables, the transaction of a window, the outbox, samples; alone knows SQL
    sources/     from a rule and a time to values: Prometheus, Gnocchi, our own samples
    actions/     http, log, alertmanager
    listener     events from a message queue
    events       event alarms: notes of events, each evaluated once
    outbox       delivers notifications in order
    commits      the thread that writes while others ask
    evaluator    one window: load, ask, decide, commit
    running      a program from its settings: group, database, threads
    show         ``hashring alarm show``
    cli          ``hashring alarm``

A member of the group ``alarms`` owns an alarm's id, evaluates it and delivers its notifications.
"""
