"""Aodh's API v2, on Aodh's own tables: for its clients, and beside its own server.

From below to above::

    answers          what is refused, and how it is said
    identity         who asks, and what they may see and change
    fields           single fields of a request, checked by name
    rules            rules as the API has them, by the type of their alarm
    asked_rules      what a rule's source says of it when it is made
    gnocchi_rules    Gnocchi's part of that
    actions          URLs of actions: which are allowed, and what is shown of them
    drafts           an alarm as a request defines it
    shapes           alarms and changes as an answer has them
    simple_query     q.field=...&q.op=...&q.value=..., sort, limit, marker
    complex_query    filters as JSON
    alarm_routes     alarms, their state and history
    other_routes     queries, quotas, capabilities, metrics, versions
    settings         what the server is told
    authentication   Keystone, passwords, or nothing
    application      the WSGI application
    serving          it, served until a signal
"""
