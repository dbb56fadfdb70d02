"""A server, and pollsters by definitions."""

import textwrap

import pytest

from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web.http_json import HTTPPollster
from tests.servers.http import HTTPServer


@pytest.fixture
def server():
    with HTTPServer() as found:
        yield found


@pytest.fixture
def settings(tmp_path):
    return Settings(
        backend_url="memory://",
        member="a",
        host="web1",
        definition_dirs=(tmp_path,),
        poll_timeout=60.0,
    )


@pytest.fixture
def define(tmp_path, settings):
    """Write definitions, and return the pollsters that are made of them."""
    made = []

    def written(text, name="a.yaml"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        found = list(HTTPPollster.make(settings))
        made.extend(found)
        return found

    yield written
    for pollster in made:
        pollster.close()
