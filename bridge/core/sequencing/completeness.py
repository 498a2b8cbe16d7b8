"""Up to which id and time a stream with contiguous ids is complete in the durable sink.

An event's own time proves the past: all events before it have lower ids. The exchange's last id
proves the present, also of a stream that has no further event.
"""

from typing import NamedTuple

from bridge.core.sequencing.rules import Head, is_ahead

# The exchange calculates the statistics that name its last ids once a second.
HEAD_MARGIN_US = 1_000_000


class Committed(NamedTuple):
    """What the durable sink has of a stream: all events up to `last_id`, and all events up to
    `complete_to`, in microseconds. Events that a gap event announces count as well.
    """

    last_id: int
    complete_to: int | None


class Completeness(NamedTuple):
    """How far a stream is complete. `checked` is the time of the last comparison with the
    exchange's last id. Times are in microseconds; None if nothing is known.
    """

    last_id: int | None = None
    complete_to: int | None = None
    checked: int | None = None

    def advance(self, committed: Committed, head: Head | None) -> "Completeness":
        """Return the completeness as of now. Its times never go back."""
        times = [self.complete_to, committed.complete_to]
        checked = self.checked
        if head is not None and head.last_id <= committed.last_id:
            checked = head.received
            # A later event than the head's last one has a better time of its own.
            is_last = head.last_id == committed.last_id
            if is_last and head.timestamp is not None and not is_ahead(head):
                times.append(head.timestamp - HEAD_MARGIN_US)
        known = [time for time in times if time is not None]
        return Completeness(committed.last_id, max(known, default=None), checked)
