"""What answers over HTTP: JSON endpoints and Prometheus's targets.

In the order in which one is made of the other::

    file_sd           files of targets, by Prometheus's rules
    targets           Discovery: targets, from files and as single addresses
    locality          which of them are each host's own, by their address
    attributes        where in a document a value is, and what is done to it; no eval
    json_values       JSON as values that every sink can take
    http_fields       HTTPDefinition: a meter at endpoints, and how its fields are read
    http_definitions  the files of such definitions
    fetch             Fetcher: a document, within one deadline; its redirects
    answers           answers whose reading is bounded, and where they are read
    http_json         Discovery and Pollster: what definitions ask for
    exposition_text   Prometheus's text formats
    exposition_messages  Prometheus's protobuf; native_histograms its histograms without bounds
    exposition_formats   which of them is asked for, and answered
    exposition        Pollster: what a target exposes

Imports ``plugin``, ``model``, ``errors`` and ``http``; no publisher.
"""
