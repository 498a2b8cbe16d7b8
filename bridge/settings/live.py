"""Changed settings: those that take effect at once, and those that need a restart."""

from collections.abc import Iterator

from pydantic import BaseModel

from bridge.settings.model import Settings

# Settings that may change while the bridge runs.
LIVE = ("binance.symbols", "binance.streams", "binance.extra_streams")


def with_streams_of(settings: Settings, changed: Settings) -> Settings:
    """Return `settings` with the symbols and streams of `changed`."""
    names = [name.partition(".")[2] for name in LIVE]
    streams = {name: getattr(changed.binance, name) for name in names}
    binance = settings.binance.model_copy(update=streams)
    return settings.model_copy(update={"binance": binance})


def waiting_for_a_restart(settings: Settings, changed: Settings) -> list[str]:
    """Return the dotted names of the changed settings that take effect only after a restart.

    Values are left out, because some are secret.
    """
    return [name for name in _differing(settings, changed) if name not in LIVE]


def _differing(one: BaseModel, other: BaseModel, section: str = "") -> Iterator[str]:
    for name in type(one).model_fields:
        before, after = getattr(one, name), getattr(other, name)
        if isinstance(before, BaseModel):
            yield from _differing(before, after, f"{name}.")
        elif before != after:
            yield section + name
