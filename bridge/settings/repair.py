"""The section `repair`."""

from pydantic import Field

from bridge.settings.section import Seconds, Section


class Repair(Section):
    """Fetching missing trades over REST."""

    timeout_s: Seconds = 30
    """Maximum time a stream waits for missing trades, in seconds. After it, the stream continues
    with a gap event."""
    max_ids: int = Field(default=20_000, ge=0, le=1_000_000)
    """Maximum number of missing ids a stream waits for. A larger hole is announced at once, and
    fetched afterwards."""
    weight_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the exchange's request weight per minute to use. Other programs may use the same IP
    address."""
