"""What the tests of HTTP endpoints share: a definition, and the volumes of what was measured."""

LOAD = """
- name: web.load
  sample_type: gauge
  unit: "1"
  value_attribute: load
"""


def volumes(measured):
    return [(found.resource_id, found.volume) for found in measured]


PAGED = LOAD + "  response_entries_key: entries\n  next_sample_url_attribute: next\n"
