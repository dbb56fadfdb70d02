"""What an agent is told, from its files and its command line, and the plan that comes of it.

In the order in which one is made of the other::

    declared      which options there are: sections, names, types, defaults, help
    files         what configuration files and environment variables give, and where
    defaults      what is a host's: the state folder, the embedded store, a member's id
    backend_url   tooz's spellings of a store's URL, as ours
    options       settings of an agent that is configured by files
    command_line  settings of an agent that is configured by its command line alone
    ceilometer    the names of options and fields of Ceilometer's present release; generated
    definitions   polling.yaml and pipeline.yaml: sources and sinks
    coordination  what Ceilometer's group_id_coordination_expression means
    installed     the plug-ins of one agent, made
    finders       what finds the resources of a source
    plan          which groups, how often, with what
    rehearsal     whether the sinks and the spool can be made at all

Imports ``overlap``, ``sources``, ``delivery``, ``plugin`` and ``model``; nothing that polls.
"""
