"""The telemetry agents: processes that share the polling of many resources, each polled once.

Rooms, in the order in which data flows through them::

    config       what an agent is told to do                         plain values
    resource     Resource: what can be polled, under an id that all members agree on
    machine      this machine, by psutil; the only room that knows it
    discovery    Discovery: which resources there are now            plug-ins
    pollsters    Pollster: a resource -> measurements                plug-ins
    sample       Meter, Measurement, Sample: a measurement that says who, when and which window
    pipeline     Pipeline: discoveries and pollsters as one; a failure costs its own sample
    publishers   Publisher: samples -> a file, a pipe, a sink        plug-ins
    agent        Agent: runs a pipeline on a Partition, and stops when told
    status       Status: what an agent says of itself while it runs
    supervisor   Supervisor: several agents as processes, restarted when they die
    audit        from samples alone: polls due, made, missed, repeated
    show         the guided show: agents join, die and leave before your eyes

Imports run up this list only, and from here to :mod:`hashring.partition`. What psutil, click, rich
and platformdirs are needed for comes with ``pip install 'hashring-ha[telemetry]'``.
"""
