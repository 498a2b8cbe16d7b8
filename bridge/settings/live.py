"""What of changed settings counts at once, and what from the next start."""

from collections.abc import Iterator

from pydantic import BaseModel

from bridge.settings.model import Settings

# What may change under way.
LIVE = ("binance.symbols", "binance.streams", "binance.extra_streams")


def with_streams_of(settings: Settings, changed: Settings) -> Settings:
    """The settings, with the symbols and streams of the changed ones."""
    names = [name.partition(".")[2] for name in LIVE]
    streams = {name: getattr(changed.binance, name) for name in names}
    binance = settings.binance.model_copy(update=streams)
    return settings.model_copy(update={"binance": binance})


def waiting_for_a_restart(settings: Settings, changed: Settings) -> list[str]:
    """The dotted names of what differs beside symbols and streams; no values, some are secret."""
    return [name for name in _differing(settings, changed) if name not in LIVE]


def _differing(one: BaseModel, other: BaseModel, section: str = "") -> Iterator[str]:
    for name in type(one).model_fields:
        before, after = getattr(one, name), getattr(other, name)
        if isinstance(before, BaseModel):
            yield from _differing(before, after, f"{name}.")
        elif before != after:
            yield section + name
