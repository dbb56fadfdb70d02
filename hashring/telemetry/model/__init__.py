"""What the agents speak of, as plain values, and how what people write is read.

::

    resource      Resource: what can be polled, under an id that all members agree on
    sample        Meter, Measurement, Sample: a measurement that says who, when and which window
    settings      Settings: what one agent is told to do
    meters        MeterFilter: which meters are asked for
    fields        Fields: a mapping from a file, of which each value is checked as it is taken
    suggestions   which known name was meant
    bounded_yaml  YAML that cannot cost more than it is worth
    documents     what all readers of YAML share

Imports ``errors`` and the core; the last two, PyYAML.
"""
