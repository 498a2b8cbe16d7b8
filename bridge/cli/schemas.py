"""`tickbridge schemas`: write, check."""

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.options import examples

Folder = Annotated[
    Path,
    typer.Option("--dir", metavar="FOLDER", file_okay=False, help="Folder of the schema files."),
]
FOLDER = Path("schemas")

schemas_app = typer.Typer(
    no_args_is_help=True, help="Write and check the JSON Schemas of the events."
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(schemas_app, name="schemas")


@schemas_app.command(epilog=examples("tickbridge schemas write --dir schemas"))
def write(folder: Folder = FOLDER) -> None:
    """Write a JSON Schema for each event, and delete all other JSON files in the folder."""
    from bridge.tools import schemas

    written = schemas.write(folder)
    typer.echo(f"{len(written)} schemas written to {folder}")


@schemas_app.command(epilog=examples("tickbridge schemas check"))
def check(folder: Folder = FOLDER) -> None:
    """Compare the schema files with the events.

    Exits with 1 if a file is missing, changed or superfluous.
    """
    from bridge.tools import schemas

    if differences := schemas.check(folder):
        for difference in differences:
            typer.echo(f"tickbridge: {difference}", err=True)
        raise typer.Exit(1)
    typer.echo(f"ok: the schemas in {folder} match the events")
