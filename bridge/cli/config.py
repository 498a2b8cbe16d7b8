"""`tickbridge config`: check, show, schema."""

from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.command_line import CommandLine
from bridge.cli.options import Config, examples, run_async

if TYPE_CHECKING:
    from bridge.settings import Settings

config_app = CommandLine(no_args_is_help=True, help="Check and show the settings.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(config_app, name="config")


@config_app.command(
    epilog=examples(
        "tickbridge config check -c tickbridge.yaml",
        "tickbridge config check --connect    also log in to Kafka and Redis",
    )
)
def check(
    *,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Also log in to Kafka and Redis, without writing anything. A server that "
            "cannot be reached is only a warning.",
        ),
    ] = False,
    config: Config = None,
) -> None:
    """Check the settings, and print what would run.

    Exits with 2 and lists every problem if there are any. Contacts no server
    without --connect.
    """
    from bridge.settings import load_settings

    settings = load_settings(config)
    accepted = run_async(_connect(settings)) if connect else []
    typer.echo("\n".join((f"ok: {_summary(settings)}", *accepted)))


@config_app.command(epilog=examples("tickbridge config show -c tickbridge.yaml"))
def show(config: Config = None) -> None:
    """Print the settings that would be used, as YAML; passwords are masked."""
    import yaml

    from bridge.settings import load_settings, masked

    text = yaml.safe_dump(masked(load_settings(config)), sort_keys=False, allow_unicode=True)
    typer.echo(text, nl=False)


@config_app.command(epilog=examples("tickbridge config schema > tickbridge.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the settings file, for editors."""
    import json

    from bridge.settings import settings_schema

    typer.echo(json.dumps(settings_schema(), indent=2, ensure_ascii=False))


async def _connect(settings: "Settings") -> list[str]:
    """Return a line for each server that accepts us. Print what is wrong with the others, and exit
    if one refuses.
    """
    import asyncio

    from bridge.app.ingestion import message_types
    from bridge.core.model.stream import SPOT
    from bridge.errors import SinkRefused, SinkUnavailable
    from bridge.monitoring import logs
    from bridge.sinks.kafka import producer
    from bridge.sinks.redis import access

    logs.configure(settings.log.model_copy(update={"level": "critical"}))
    checks = {
        "Kafka": producer.check_access(settings.kafka),
        "Redis": access.check_access(settings.redis, SPOT, message_types(settings)),
    }
    errors = await asyncio.gather(*checks.values(), return_exceptions=True)
    accepted, is_refused = [], False
    for name, error in zip(checks, errors, strict=True):
        match error:
            case None:
                accepted.append(f"    {name} accepts the bridge")
            case SinkUnavailable():
                what = f"warning: {error}; cannot check user and password"
                typer.echo(f"tickbridge: {what}", err=True)
            case SinkRefused():
                is_refused = True
                typer.echo(f"tickbridge: {error}", err=True)
            case _:
                raise error
    if is_refused:
        raise typer.Exit(SinkRefused.exit_code)
    return accepted


def _summary(settings: "Settings") -> str:
    from bridge.core.model.stream import SPOT
    from bridge.core.records.record import topic_name

    binance, kafka = settings.binance, settings.kafka
    servers = ", ".join(kafka.bootstrap_servers)
    return (
        f"{_streams(settings)} from {binance.websocket_url}\n"
        f"    to Kafka at {servers}, topics {topic_name(kafka.topic, SPOT, '*')}\n"
        f"    and Redis at {settings.redis.url}\n"
        f"    status at http://{settings.http.host}:{settings.http.port}"
    )


def _streams(settings: "Settings") -> str:
    from bridge.core.binance.subscription import is_pattern

    binance = settings.binance
    patterns = sum(map(is_pattern, binance.symbols))
    named = len(binance.symbols) - patterns
    asked = _all_of(_count(named, "symbol"), _count(patterns, "pattern"))
    of_symbols = f"{asked} x {_count(len(binance.streams), 'stream')}" if asked else ""
    extra = _count(len(binance.extra_streams), "extra stream")
    return _all_of(of_symbols, extra)


def _all_of(*parts: str) -> str:
    return " and ".join(part for part in parts if part)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""
