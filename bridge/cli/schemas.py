"""`tickbridge schemas`: write, check."""

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.options import examples

Folder = Annotated[
    Path, typer.Option("--dir", metavar="FOLDER", file_okay=False, help="Where the files are.")
]
FOLDER = Path("schemas")

schemas_app = typer.Typer(
    no_args_is_help=True, help="The JSON Schemas of the events, for consumers."
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(schemas_app, name="schemas")


@schemas_app.command(epilog=examples("tickbridge schemas write --dir schemas"))
def write(folder: Folder = FOLDER) -> None:
    """Write a JSON Schema for each event, and remove what is none of them."""
    from bridge.tools import schemas

    written = schemas.write(folder)
    typer.echo(f"{len(written)} schemas in {folder}")


@schemas_app.command(epilog=examples("tickbridge schemas check"))
def check(folder: Folder = FOLDER) -> None:
    """Compare the files with the events; exits with 1 if any is missing, changed or too many."""
    from bridge.tools import schemas

    if differences := schemas.check(folder):
        for difference in differences:
            typer.echo(f"tickbridge: {difference}", err=True)
        raise typer.Exit(1)
    typer.echo(f"ok: {folder} is what the events are")
