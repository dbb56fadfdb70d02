"""The telemetry agents: processes that share the polling of many resources, each polled once.

Folders, lowest first. Each imports what stands above it here, and the core (:mod:`hashring`)::

    errors       every error of the agents; imports nothing but the core's errors
    model/       samples, resources, settings, meter filters, checked fields: plain values
    plugin/      what an author of plug-ins subclasses, returns and raises: imports model and errors
    http/        exchanges over HTTP by one set of rules, for threads (urllib3) and for an event
                 loop (httptools): imports errors alone
    sources/     what can be polled, each folder with the one library that knows it:
                 host/ (psutil), web/ (http; JSON, expositions, files of targets), libvirt/
    publishers/  where samples go, a module a kind of sink: imports plugin and http
    delivery/    samples between polling and publishing: outlet, courier, spool
    overlap/     what several agents poll in common, and where they announce it
    config/      what an agent is told to do: options, files, definitions, the plan
    polling/     polls in time: pool of threads, event loop, the loops, the runner of one group
    agent/       an agent as a process: beginning, end, supervision, signals, systemd, status
    cli/         the commands

No source imports a publisher, and no publisher a source: they are found by entry point. The author
of a plug-in needs :mod:`hashring.telemetry.plugin` alone, which works without any of the extras.
What is needed for all but libvirt and OTLP comes with ``pip install 'hashring-ha[telemetry]'``.

The modules ``discovery``, ``pollsters``, ``resource``, ``sample``, ``settings``, ``machine``,
``plan``, ``spool`` and ``instances`` beside the folders keep names importable that programs may
have from former documentation.
"""
