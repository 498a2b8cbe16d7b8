"""The section `repair`."""

from pydantic import Field

from bridge.settings.section import Seconds, Section


class Repair(Section):
    """How trades that the streams missed are fetched over REST."""

    timeout_s: Seconds = 30
    """Time a stream waits for its missing trades before it goes on behind a gap event, seconds."""
    max_ids: int = Field(default=20_000, ge=0, le=1_000_000)
    """Most ids a stream waits for; a larger hole is announced at once, and fetched afterwards."""
    weight_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the exchange's request weight per minute to use; others may share the address."""
