"""The telemetry agents: processes that share the polling of many resources, each polled once.

Modules, in the order in which data flows through them::

    settings     Settings: what an agent is told to do                plain values
    config       settings from the command line alone
    definitions  polling.yaml, pipeline.yaml: sources and sinks
    backend_url  tooz's spellings of a store's URL -> ours
    ceilometer   the names of options and fields of Ceilometer's present release; generated
    suggestions, documents   which known name was meant; what all readers of YAML share
    options      settings from ceilometer.conf, by oslo.config

    resource     Resource: what can be polled, under an id that all members agree on
    sample       Meter, Measurement, Sample: a measurement that says who, when and which window
    machine      this machine, by psutil; the only module that knows it
    domain, libvirt_link, hypervisor   a hypervisor, by libvirt; the only modules that know it
    fetch        a document by HTTP, within one deadline
    attributes   where in a document a value is, and what is done to it; no eval
    file_sd      files of targets, by Prometheus's rules
    discovery, targets   Discovery: which resources there are now    plug-ins
    pollsters, http_json, exposition, instances   Pollster: a resource -> measurements   plug-ins
    publishers   Publisher: samples -> a file, a pipe, a sink         plug-ins
    plugins      finds them by entry point

    locality     which resources are each host's own, by their address
    coordination what Ceilometer's group_id_coordination_expression means
    plan         Plan: which groups, how often, with what; what `hashring agent check` prints
    check        prints it
    overlap      Announcement, Overlap: what two agents poll in common
    directory    Directory: where agents announce themselves
    spool        Spool: samples on disk until their sinks have taken them
    delivery     Outlet: takes samples from the loops to the publishers
    done         DoneWindows: what an agent that comes next need not poll again
    set_aside    SetAside: what is not polled for a while, because it stopped an agent
    flights      Flights: which polls are in hand, where another process can read it
    judgement    which of them keeps an agent from running
    witness      Guard: the process that sees it, and tells the others
    poller       Pool: calls that run at once, each cut off at its deadline
    runner       Runner: one group of an agent: own, poll, check, put
    agent        Agent: all runners, begun and ended in order
    launch       Launch: all that it takes to make an agent, for another process
    status       Status: what an agent says of itself while it runs
    notify       what systemd is told
    signals      SIGTERM, SIGHUP and Ctrl-C as calls from a thread
    supervisor   Supervisor: several agents as processes, restarted when they die
    audit        from samples alone: polls due, made, missed, repeated
    show         the guided show: agents join, die and leave before your eyes

Imports run up this list only, and from here to :mod:`hashring.partition`. What is needed for all
but libvirt and OTLP comes with ``pip install 'hashring-ha[telemetry]'``.
"""
