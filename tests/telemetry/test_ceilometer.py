"""What Ceilometer's present release knows, from the release itself, beside what we have of it."""

import pytest

from hashring.telemetry.config import ceilometer, declared, definitions
from hashring.telemetry.sources.web import http_fields
from tests.servers import openstack


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first time, the release is installed
def test_our_list_of_options_and_fields_is_that_of_the_present_release():
    told = openstack.module(openstack.names())

    assert openstack.MODULE.read_text() == told, "python -m tests.servers.openstack --write"


@pytest.mark.parametrize(
    ("section", "option"),
    sorted((section, name) for section, names in ceilometer.OPTIONS.items() for name in names),
)
def test_each_option_of_the_release_is_read_or_has_no_effect_for_a_reason(section, option):
    assert option in declared.known_options(section) or (section, option) in declared.WITHOUT_EFFECT


def test_no_option_is_said_to_be_ceilometers_that_is_not():
    former = {("coordination", "check_watchers")}  # of releases up to Mitaka

    assert {
        (section, option)
        for section, option in declared.WITHOUT_EFFECT.keys() - former
        if option not in ceilometer.OPTIONS[section]
    } == set()


def test_each_field_of_a_dynamic_pollster_is_read_or_refused_by_name():
    assert http_fields.FIELDS | http_fields.UNSUPPORTED.keys() >= ceilometer.POLLSTER_FIELDS


def test_each_field_of_a_source_is_read():
    assert ceilometer.SOURCE_FIELDS <= definitions._POLLING_FIELDS
    assert definitions._SOURCE_FIELDS | {"sinks"} >= ceilometer.PIPELINE_SOURCE_FIELDS
