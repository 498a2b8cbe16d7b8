"""Makes the gap and invalid events that announce losses of the Kafka sink."""

from collections.abc import Callable, Iterable

import structlog

from bridge.core.binance.decode import payload_text
from bridge.core.delivery.losses import Loss, log_fields
from bridge.core.model.events import Event, Gap, Invalid
from bridge.core.records.record import NO_IDENTITY, Record
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.position import StreamKey
from bridge.core.sequencing.sequencers import contiguous_sequencer

TOO_LARGE, REFUSED = "too_large", "refused"
# Kafka will never take these records. An invalid event replaces each.
_FOR_GOOD = frozenset((TOO_LARGE, REFUSED))

Notice = Callable[[str, Contiguous], None]

log = structlog.get_logger(__name__)


class GapReporter:
    """Makes gap events of losses.

    Gaps of contiguous streams stay open, in parts of at most `max_ids` ids. `notice` is called for
    each stream that has open gaps.
    """

    def __init__(self, venue: str, max_ids: int) -> None:
        self._venue = venue
        self._max_ids = max_ids
        self._sequencers: dict[StreamKey, Contiguous] = {}
        self._notice: Notice = lambda _symbol, _sequencer: None

    def watch(self, notice: Notice) -> None:
        """Call `notice` for each stream that has open gaps, now and later."""
        self._notice = notice
        for key, sequencer in self._sequencers.items():
            if sequencer.open_gaps:
                notice(key.symbol, sequencer)

    def reopen(self, gaps: Iterable[Gap]) -> list[Event]:
        """Take over the open gaps of another process, to have them repaired.

        Return the closing events of gaps that exceed the limit of open gaps.
        """
        events: list[Event] = []
        for gap in gaps:
            sequencer = self._sequencers.setdefault(
                StreamKey(gap.kind, gap.symbol), contiguous_sequencer(gap.kind)
            )
            events += sequencer.announce(gap, self._max_ids)
            self._notice(gap.symbol, sequencer)
        return [event for event in events if isinstance(event, Gap) and event.state != "open"]

    def announce(self, losses: Iterable[Loss], now: int) -> list[Event]:
        """Return the gap events of losses. `now` is in microseconds."""
        return [event for loss in losses for event in self._events(loss, now)]

    def _events(self, loss: Loss, now: int) -> list[Event]:
        if loss.first_id == NO_IDENTITY:
            # The invalid event of the record already announces this loss.
            return [] if loss.cause in _FOR_GOOD else [self._logged(_gap(self._venue, loss, now))]
        gap = self._logged(_gap(self._venue, loss, now))
        if gap.state == "lost":
            return [gap]
        sequencer = self._sequencers.setdefault(
            loss.stream_key, contiguous_sequencer(loss.message_type)
        )
        events = sequencer.announce(gap, self._max_ids)
        self._notice(loss.symbol, sequencer)
        return events

    def _logged(self, gap: Gap) -> Gap:
        log.warning("kafka_gap", **log_fields(gap))
        return gap


def refused_event(venue: str, record: Record, cause: str, max_bytes: int, now: int) -> Invalid:
    """Return the event that replaces a record that Kafka refuses. `cause` is TOO_LARGE or REFUSED,
    `max_bytes` is the size of a batch.
    """
    route = record.route
    identity = "" if record.identity == NO_IDENTITY else f" {record.identity}"
    reason = (
        f"{len(record.value)} bytes; a batch holds {max_bytes} (kafka.batch_max_bytes), or the "
        "topic less (max.message.bytes)"
        if cause == TOO_LARGE
        else f"topic {route.topic} refuses it (INVALID_RECORD)"
    )
    detail = f"{route.message_type}{identity} of {route.symbol}: {reason}"
    payload = payload_text(record.value)
    return Invalid(venue, route.symbol, None, now, "websocket", cause, payload, detail)


def _gap(venue: str, loss: Loss, now: int) -> Gap:
    has_ids = loss.first_id != NO_IDENTITY
    is_open = has_ids and loss.is_exact and loss.cause not in _FOR_GOOD
    return Gap(
        venue=venue,
        symbol=loss.symbol,
        timestamp=None,
        received=now,
        source="websocket",
        kind=loss.message_type,
        first_id=loss.first_id if has_ids else None,
        last_id=loss.last_id if has_ids else None,
        from_time=loss.from_time,
        to_time=loss.to_time,
        cause=loss.cause,
        state="open" if is_open else "lost",
    )
