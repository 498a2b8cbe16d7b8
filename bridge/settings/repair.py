"""The section `repair`."""

from pydantic import Field

from bridge.settings.section import Seconds, Section


class Repair(Section):
    """Fetching missing trades over REST."""

    timeout_s: Seconds = 30
    """Maximum time a stream waits for missing trades, candles or block trades, in seconds. After
    it, the stream continues with a gap event."""
    max_ids: int = Field(default=20_000, ge=0, le=1_000_000)
    """Maximum number of missing events a stream waits for. A larger hole is announced at once.
    Trades are then fetched afterwards."""
    head_check_interval_s: float = Field(default=60, ge=0, le=3600)
    """How often the exchange is asked for the last id of each stream of trades, so that missing
    ones are noticed before the next one arrives, in seconds. 0 turns the check off."""
    weight_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the exchange's request weight per minute to use. Other programs may use the same IP
    address."""
