"""What the present release of Ceilometer knows in the files that agents read.

Written by `python -m tests.servers.openstack --write` from the release itself, with
which a test compares it. Do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping

RELEASE = "27.0.0"

# Options by section, with the old names that it still takes.
OPTIONS: Mapping[str, frozenset[str]] = {
    "central": frozenset(
        {
            "partitioning_group_prefix",
        }
    ),
    "compute": frozenset(
        {
            "fetch_extra_metadata",
            "instance_discovery_method",
            "report_stopped_instance_metrics",
            "resource_cache_expiry",
            "resource_update_interval",
        }
    ),
    "coordination": frozenset(
        {
            "backend_url",
        }
    ),
    "polling": frozenset(
        {
            "batch_size",
            "cfg_file",
            "enable_notifications",
            "enable_prometheus_exporter",
            "heartbeat_socket_dir",
            "identity_name_discovery",
            "ignore_disabled_projects",
            "partitioning_group_prefix",
            "pollsters_definitions_dirs",
            "prometheus_listen_addresses",
            "prometheus_tls_certfile",
            "prometheus_tls_enable",
            "prometheus_tls_keyfile",
            "tenant_name_discovery",
            "threads_to_process_pollsters",
        }
    ),
}

# Fields of a source in polling.yaml.
SOURCE_FIELDS = frozenset(
    {
        "discovery",
        "group_id_coordination_expression",
        "interval",
        "meters",
        "name",
        "resources",
    }
)

# Fields of a source in pipeline.yaml.
PIPELINE_SOURCE_FIELDS = frozenset(
    {
        "meters",
        "name",
        "sinks",
    }
)

# Fields of a sink in pipeline.yaml.
SINK_FIELDS = frozenset(
    {
        "name",
        "publishers",
    }
)

# Fields of a dynamic pollster.
POLLSTER_FIELDS = frozenset(
    {
        "authentication_object",
        "authentication_parameters",
        "barbican_secret_id",
        "base_metadata",
        "default_value",
        "endpoint_type",
        "extra_metadata_fields",
        "extra_metadata_fields_cache_seconds",
        "extra_metadata_fields_skip",
        "headers",
        "host_command",
        "metadata_fields",
        "metadata_mapping",
        "module",
        "name",
        "namespaces",
        "next_sample_url_attribute",
        "preserve_mapped_metadata",
        "project_id_attribute",
        "resource_id_attribute",
        "response_entries_key",
        "response_handlers",
        "sample_type",
        "skip_sample_values",
        "timeout",
        "unit",
        "url_path",
        "user_id_attribute",
        "value_attribute",
        "value_mapping",
    }
)
