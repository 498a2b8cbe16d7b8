"""`tickbridge schemas`: print, write, check."""

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.command_line import CommandLine
from bridge.cli.options import examples

Folder = Annotated[
    Path,
    typer.Option("--dir", metavar="FOLDER", file_okay=False, help="Folder of the schema files."),
]
FOLDER = Path("schemas")

schemas_app = CommandLine(
    no_args_is_help=True, help="Print, write and check the JSON Schemas of events and status."
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(schemas_app, name="schemas")


def _names(incomplete: str) -> list[str]:
    from bridge.tools import schemas

    return [name for name in schemas.NAMES if name.startswith(incomplete)]


@schemas_app.command(
    "print",
    epilog=examples(
        "tickbridge schemas print trade",
        "tickbridge schemas print http_status    the answer of /status",
    ),
)
def print_one(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", autocompletion=_names, help="Message type, or http_status."),
    ],
) -> None:
    """Print one JSON Schema."""
    from bridge.tools import schemas

    if name not in schemas.NAMES:
        raise typer.BadParameter(
            f"{name!r} has no schema; those are {', '.join(schemas.NAMES)}", param_hint="NAME"
        )
    typer.echo(schemas.text(name), nl=False)


@schemas_app.command(epilog=examples("tickbridge schemas write --dir schemas"))
def write(folder: Folder = FOLDER) -> None:
    """Write all JSON Schemas, and delete all other JSON files in the folder."""
    from bridge.tools import schemas

    written = schemas.write(folder)
    typer.echo(f"{len(written)} schemas written to {folder}")


@schemas_app.command(epilog=examples("tickbridge schemas check"))
def check(folder: Folder = FOLDER) -> None:
    """Compare the schema files with the events and the status.

    Exits with 1 if a file is missing, changed or superfluous.
    """
    from bridge.tools import schemas

    if differences := schemas.check(folder):
        for difference in differences:
            typer.echo(f"tickbridge: {difference}", err=True)
        raise typer.Exit(1)
    typer.echo(f"ok: the schemas in {folder} match the events and the status")
