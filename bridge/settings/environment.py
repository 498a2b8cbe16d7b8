"""Settings from the environment, the files its variables name, and a secrets directory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic_settings import (
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    SecretsSettingsSource,
)
from pydantic_settings import SettingsError as SecretsError

from bridge.errors import Problem
from bridge.settings.files import read_file
from bridge.settings.model import NESTING, PREFIX, Settings
from bridge.settings.problems import VARIABLES, is_secret, nearest, shown
from bridge.settings.types import MASK

CONFIG_VARIABLE = f"{PREFIX}CONFIG"
SECRETS_VARIABLE = f"{PREFIX}SECRETS_DIR"
# The image sets it to the git revision that it was built from.
REVISION_VARIABLE = f"{PREFIX}REVISION"
FILE_SUFFIX = "_FILE"
SECRET_MAX_BYTES = 64 * 2**10
_OURS = {CONFIG_VARIABLE, SECRETS_VARIABLE, REVISION_VARIABLE, f"{PREFIX}CAPTURES"}

# Variables that Kubernetes sets for each Service whose name begins with ours ("tickbridge",
# "tickbridge-redis"). Source: kubernetes.io, "Accessing the Service", environment variables.
_SERVICE = re.compile(
    rf"{PREFIX}([A-Z0-9]+_)*(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)"
)
_SERVICE_PORT = re.compile(rf"{PREFIX}([A-Z0-9]+_)*PORT=(tcp|udp|sctp)://.*")


@dataclass
class Environment:
    """The settings in the environment, by variable. `values` holds the values of variables, and
    `from_files` those that were read from files.
    """

    values: dict[str, str] = field(default_factory=dict)
    from_files: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)  # dotted key -> its variable
    problems: list[Problem] = field(default_factory=list)


def read_environment(variables: Mapping[str, str]) -> Environment:
    """Read the variables with our prefix. An empty one counts as not set, as compose files expect.

    A problem is added to `problems` of the result, and not raised.
    """
    found = Environment()
    for name, value in variables.items():
        if name.startswith(PREFIX) and value and not _is_foreign(name, value):
            _sort(found, name, value)
    return found


def _is_foreign(name: str, value: str) -> bool:
    if name in _OURS or name in VARIABLES:
        return name in _OURS
    return bool(_SERVICE.fullmatch(name) or _SERVICE_PORT.fullmatch(f"{name}={value}"))


def _sort(found: Environment, name: str, value: str) -> None:
    target = name.removesuffix(FILE_SUFFIX)
    if name in VARIABLES:
        found.values[name] = value
        found.origins[VARIABLES[name]] = name
    elif target in VARIABLES:
        _read_secret(found, name, value)
    else:
        known = (each.removeprefix(PREFIX) for each in (*VARIABLES, *_OURS))
        near = nearest(name.removeprefix(PREFIX), known)
        remedy = (
            f"the nearest known variable is {PREFIX}{near}"
            if near
            else "docs/reference/settings.md lists all settings"
        )
        found.problems.append(Problem(name, None, "is not a variable of Tickbridge", remedy))


def _read_secret(found: Environment, name: str, path: str) -> None:
    target = name.removesuffix(FILE_SUFFIX)
    try:
        found.from_files[target] = read_file(Path(path), SECRET_MAX_BYTES).decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        # The value may be the secret itself instead of a path. It must not appear in the log.
        value = MASK if is_secret(VARIABLES[target]) and not path.startswith("/") else shown(path)
        what, remedy = f"cannot be read ({reason})", "use a file of only the value"
        found.problems.append(Problem(name, value, what, remedy))
        return
    found.origins.setdefault(VARIABLES[target], name)


class MappingSource(EnvSettingsSource):
    """pydantic's source of environment variables, which reads a given mapping instead of the
    process's environment.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(Settings)
        self.env_vars = {name.lower(): value for name, value in variables.items()}


def secrets_source(
    directory: str, problems: list[Problem]
) -> NestedSecretsSettingsSource | MappingSource:
    """Return the source that reads a directory with one file for each key (`kafka__password`).

    Docker and Kubernetes mount secrets in this form. A file without `__` in its name is ignored: a
    Secret often holds certificates too. If the directory cannot be read, adds to `problems`.
    """
    if not directory:
        return MappingSource({})
    try:
        return NestedSecretsSettingsSource(
            SecretsSettingsSource(Settings),
            secrets_dir=directory,
            secrets_dir_missing="error",
            secrets_dir_max_size=SECRET_MAX_BYTES * 100,
            secrets_prefix="",
            secrets_nested_delimiter=NESTING,
        )
    except (OSError, ValueError, RuntimeError, SecretsError):
        pass
    remedy = "set the path of a directory of small UTF-8 text files, each named section__key"
    problems.append(Problem(SECRETS_VARIABLE, shown(directory), "cannot be read", remedy))
    return MappingSource({})
