"""Merges all sources into one tree of settings, or raises one error with every problem."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import InitSettingsSource

from bridge.errors import SettingsError
from bridge.settings.environment import (
    CONFIG_VARIABLE,
    SECRETS_VARIABLE,
    MappingSource,
    read_environment,
    secrets_source,
)
from bridge.settings.model import Settings
from bridge.settings.problems import problems_of
from bridge.settings.yaml_file import read_yaml

DEFAULT_FILE = Path("tickbridge.yaml")


def load_settings(
    config: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Read, merge and check the settings.

    The first source wins: `overrides` (nested, like the file), the environment (by default that
    of the process), files named by `…_FILE` variables, the secrets directory, the YAML file.
    The file is `config`, or else the one in TICKBRIDGE_CONFIG, or else `tickbridge.yaml` in the
    working directory if it exists.

    Raises SettingsError with every problem at once. Its text contains no secret.
    """
    variables = os.environ if environment is None else environment
    found = read_environment(variables)
    problems = found.problems
    secrets = secrets_source(variables.get(SECRETS_VARIABLE, ""), problems)
    try:
        file = settings_file(config, environment=variables)
        data = {} if file is None else read_yaml(file)
    except SettingsError as error:  # without the file, more checks would only mislead
        raise SettingsError([*problems, *error.problems]) from None
    sources = (
        InitSettingsSource(Settings, dict(overrides or {})),
        MappingSource(found.values),
        MappingSource(found.from_files),
        secrets,
        InitSettingsSource(Settings, {"binance": {}} | data),
    )
    try:
        settings = Settings(_build_sources=(sources, {}))  # type: ignore[call-arg]  # pydantic's
    except ValidationError as error:
        problems = problems + problems_of(error, found.origins)
    # Raised outside `except`: pydantic's error holds the values, and would become our context.
    if problems:
        raise SettingsError(problems)
    return settings


def settings_file(
    config: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> Path | None:
    """Return the YAML file that the settings are read from, or None if there is none."""
    variables = os.environ if environment is None else environment
    if config is None and (named := variables.get(CONFIG_VARIABLE)):
        return Path(named)
    return config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


def masked(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values for display, with passwords (also in URLs) as `***`."""
    return settings.model_dump(mode="json")


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of the YAML file, for editors.

    It is closed, with descriptions and defaults. No key is required, because any key may come from
    the environment.
    """
    schema = Settings.model_json_schema()
    schema.pop("required", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
