"""`.env.example` lists what docker-compose.yml reads, with the same defaults."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()


def test_every_variable_of_the_compose_file_is_listed_with_its_default() -> None:
    read = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE))
    passed_on = re.findall(r"^ +([A-Z0-9_]+): *(?:#.*)?$", COMPOSE, re.MULTILINE)
    listed = dict(re.findall(r"^#?([A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert listed == read | dict.fromkeys(passed_on, "")


def test_no_variable_of_the_compose_file_lacks_a_default() -> None:
    assert set(re.findall(r"(?<!\$)\$\{?(\w+)", COMPOSE)) == set(
        re.findall(r"\$\{(\w+):-", COMPOSE)
    )


def test_a_copy_of_the_example_changes_nothing() -> None:
    assert all(not line or line.startswith("#") for line in EXAMPLE.splitlines())
