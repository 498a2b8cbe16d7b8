"""The classes of our commands: typer's, with a help that shows no type where an option takes no
value. Typer shows `<bool>` there.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

Function = TypeVar("Function", bound=Callable[..., Any])


class _FlagsWithoutType:
    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the other base
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Command(_FlagsWithoutType, TyperCommand):
    """A command."""


class Group(_FlagsWithoutType, TyperGroup):
    """A command that has commands."""


class CommandLine(typer.Typer):
    """A Typer of these classes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"cls": Group} | options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:
        """Return a decorator that adds a command."""
        return super().command(name, **{"cls": Command} | options)
