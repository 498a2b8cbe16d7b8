"""The generated parts of the chart are up to date."""

import json

import jsonschema
import pytest
import yaml

from bridge.settings import settings_schema
from charts.generate import CHART, explained, keys, texts


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_the_generated_parts_are_up_to_date(path: object) -> None:
    expected = {str(file): text for file, text in texts().items()}[str(path)]
    assert (CHART / str(path)).read_text() == expected, "run make chart"


def test_the_schema_has_every_setting() -> None:
    chart = json.loads((CHART / "values.schema.json").read_text())
    model = settings_schema()
    assert chart["properties"]["settings"]["properties"].keys() == model["properties"].keys()
    for name, section in model["$defs"].items():
        assert chart["$defs"][name]["properties"].keys() == section["properties"].keys()


def test_the_schema_is_one_and_closed_and_takes_the_default_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator(schema).validate(values)
    assert schema["properties"].keys() == values.keys() | {"global"}


def test_every_value_is_explained() -> None:
    root = yaml.compose((CHART / "values.yaml").read_text())
    assert root is not None
    said = {key for key, _, _ in explained()}
    for key, _, node in keys(root):
        block = isinstance(node, yaml.MappingNode) and not node.flow_style
        assert block or key in said, key


def test_the_chart_has_the_version_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (CHART.parents[1] / "pyproject.toml").read_text()
    assert f'\nversion = "{chart["appVersion"]}"\n' in project
