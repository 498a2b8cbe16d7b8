"""From all sources to one tree, or to one error with every problem in it."""

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

    What comes first wins: `overrides` (nested, as the file is), the environment (the process's
    own by default), files named by `…_FILE` variables, the secrets directory, the YAML file.
    The file is `config`, else the one TICKBRIDGE_CONFIG names, else `tickbridge.yaml` in the
    working folder if there is one.

    Raises SettingsError with every problem at once; no secret is in its text.
    """
    variables = os.environ if environment is None else environment
    found = read_environment(variables)
    problems = found.problems
    secrets = secrets_source(variables.get(SECRETS_VARIABLE, ""), problems)
    try:
        file = settings_file(config, environment=variables)
        data = {} if file is None else read_yaml(file)
    except SettingsError as error:  # without the file the rest would only look wrong
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
    # Raised out here: pydantic's error holds the values, and would hang on ours as its context.
    if problems:
        raise SettingsError(problems)
    return settings


def settings_file(
    config: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> Path | None:
    """The YAML file that the settings are read from, if there is one."""
    variables = os.environ if environment is None else environment
    if config is None and (named := variables.get(CONFIG_VARIABLE)):
        return Path(named)
    return config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


def masked(settings: Settings) -> dict[str, Any]:
    """Dump the settings for showing: plain values, passwords (also those in URLs) as `***`."""
    return settings.model_dump(mode="json")


def settings_schema() -> dict[str, Any]:
    """Describe the YAML file as JSON Schema, for editors: closed, with descriptions and defaults.

    Nothing is required: any key may come from the environment.
    """
    schema = Settings.model_json_schema()
    schema.pop("required", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
