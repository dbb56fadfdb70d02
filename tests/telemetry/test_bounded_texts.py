"""YAML and XML that are made to cost more than they are worth."""

import pytest
import yaml

from hashring.telemetry.config.definitions import load_polling
from hashring.telemetry.errors import BadDefinition, BadTargets
from hashring.telemetry.model import bounded_yaml
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.libvirt import bounded_xml
from hashring.telemetry.sources.libvirt.domain import describe
from hashring.telemetry.sources.web import http_json
from hashring.telemetry.sources.web.targets import HTTPTargets


def bomb(first, form):
    """Aliases of aliases: ten times as much on each of nine lines."""
    lines = [f"a0: &a0 {first}"]
    for number in range(1, 10):
        lines.append(f"a{number}: &a{number} {form.format(', '.join([f'*a{number - 1}'] * 10))}")
    return "\n".join(lines)


BOMBS = {
    "lists": bomb("[x, x, x, x]", "[{}]"),
    "merges": bomb("{k: v}", "{{<<: [{}]}}"),
    "itself": "a: &a [*a]",
    "flow depth": "[" * 500 + "]" * 500,
    "block depth": "- " * 900 + "a",
    "deeper": "[" * 1_000_000,
    "base 60": "a: 1" + ":1" * 20_000,
    "digits": "a: " + "9" * 100_000,
    "lines": "- a\n" * 600_000,
    "commas": "[" + "a," * 600_000 + "]",
    "size": "a: " + "b" * 5_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_loaded(name):
    with pytest.raises(yaml.YAMLError):
        bounded_yaml.check(BOMBS[name])


@pytest.mark.parametrize("name", sorted(BOMBS.keys() - {"lines", "commas", "size"}))
def test_a_bomb_in_any_file_is_an_error_that_names_the_file(name, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(BOMBS[name])
    settings = Settings(backend_url="memory://", member="a", host="h", definition_dirs=(tmp_path,))

    with pytest.raises(BadDefinition, match=r"a\.yaml"):
        load_polling(path)
    with pytest.raises(BadDefinition, match=r"a\.yaml"):
        http_json.load_definitions(settings)
    with pytest.raises(BadTargets, match=r"a\.yaml"):
        HTTPTargets(settings).discover(str(path))


@pytest.mark.parametrize(
    "content", ["[" + "[]," * 2_000_000 + "[]]", "[" * 100_000, "[" + "9" * 100_000 + "]"]
)
def test_poison_in_a_watched_file_of_json_is_an_error_that_names_it(content, tmp_path):
    path = tmp_path / "targets.json"
    path.write_text(content)
    settings = Settings(backend_url="memory://", member="a", host="h")

    with pytest.raises(BadTargets, match=r"targets\.json, line 1"):
        HTTPTargets(settings).discover(str(path))


def test_aliases_and_merges_as_people_write_them_are_read():
    text = "a: &a {k: v, l: [1, 2]}\nb: {<<: *a, m: *a}\nmeters: ['*']\n"

    bounded_yaml.check(text)
    bounded_yaml.check("")


def laughs():
    entities = "".join(
        f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, 10)
    )
    return f'<!DOCTYPE domain [<!ENTITY e0 "ha">{entities}]><domain><name>&e9;</name></domain>'


XML = {
    "entities": laughs(),
    "one large entity": f'<!DOCTYPE d [<!ENTITY e "{"a" * 50_000}">]><d>{"&e;" * 50_000}</d>',
    "an entity from outside": '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/hostname">]><d>&e;</d>',
    "depth": "<a>" * 100_000 + "</a>" * 100_000,
    "elements": "<d>" + "<a/>" * 200_000 + "</d>",
    "size": "<d>" + "a" * 5_000_000 + "</d>",
}


@pytest.mark.parametrize("name", XML)
def test_xml_that_expands_or_goes_too_deep_is_refused(name):
    with pytest.raises(ValueError, match="this XML has"):
        bounded_xml.parsed(XML[name])
    with pytest.raises(ValueError, match="this XML has"):
        describe(XML[name])
