"""The audit of one stream: a state machine that sees the ids of each record in topic order."""

from typing import NamedTuple

from bridge.core.model.id_ranges import IdRanges, Ids
from bridge.tools.audit.announced import Announced
from bridge.tools.audit.claims import Claims
from bridge.tools.audit.report import MissingRange, Places, StreamReport
from bridge.tools.audit.rules import Rule

# Open ranges of one stream. Beyond the limit the older half is judged early.
OPEN_MAX_RANGES = 100_000
# An id this far below the first id, and below half of it, is not a straggler: the ids restarted.
RESTART_LEAST_DROP = 10_000
# Restarts of one stream whose earlier ids are remembered.
MAX_RUNS = 100


class Run(NamedTuple):
    """The ids of a stream from one restart to the next, and the newest time of its records."""

    first_id: int
    last_id: int
    newest: int


class StreamAudit:
    """Counts the records passed to `observe` in `report`, which is complete after `finish`.

    It stores the missing ranges, never the ids. Nothing is known of ids below `_floor`: they came
    before the first record, or were judged early.
    """

    __slots__ = (
        *("_announced", "_claims", "_contiguous", "_earlier", "_floor", "_missing"),
        *("_newest", "_next", "_run_begin", "_step", "_times", "report"),
    )

    def __init__(
        self, rule: Rule, announced: Announced, report: StreamReport, claims: Claims
    ) -> None:
        self.report = report
        self._announced = announced
        self._claims = claims
        self._step = rule.step
        self._contiguous = rule.contiguous
        self._missing = IdRanges()
        self._floor = self._run_begin = 0
        self._next = -1  # no record has this id
        self._newest = 0
        # The times of the last three records in order: one of them may be wrong.
        self._times = (0, 0, 0)
        self._earlier: list[Run] = []

    def observe(self, first_id: int, last_id: int, offset: int, time: int) -> None:
        """Process the next record: the ids it covers, and its time in microseconds."""
        self.report.records += 1
        if self._earlier and self._is_earlier(first_id, last_id, time):
            self.report.repeated.add(offset, first_id)
        if first_id == self._next or self._goes_on(first_id, last_id, offset, time):
            self._next = last_id + self._step
            if self._claims:
                self._compare(first_id, offset, time)
        self._newest = max(self._newest, time)

    def finish(self) -> StreamReport:
        """Judge the ids that are still missing. Do not call `observe` afterwards."""
        self._judge(self._missing.take(len(self._missing)))
        if self.report.first_id is not None:
            self.report.last_id = last_id = self._next - self._step
            if self._claims.last_id > last_id:
                self.report.claimed_id = self._claims.last_id
        self.report.interruptions = self._announced.interruptions
        return self.report

    def _compare(self, first_id: int, offset: int, time: int) -> None:
        """Compare a record with what the statuses before it have claimed."""
        if time <= self._claims.until(first_id):
            is_early = time < sorted(self._times)[1]
            report = self.report
            (report.dated_early if is_early else report.later_than_claimed).add(offset, first_id)
        self._times = (*self._times[1:], time)

    def _goes_on(self, first_id: int, last_id: int, offset: int, time: int) -> bool:
        """Return whether the stream continues after this record, which is not the expected one."""
        if self.report.first_id is None:
            return self._begin(first_id, last_id, offset)
        if first_id < self._next:
            return self._step_back(first_id, last_id, offset, time)
        if self._contiguous:
            self._missing.append(self._next, first_id - 1)
            if len(self._missing) > OPEN_MAX_RANGES:
                self._judge_early()
        return True

    def _begin(self, first_id: int, last_id: int, offset: int) -> bool:
        """Begin the proof, unless the record was published later into an announced gap."""
        if self._announced.covers(first_id, last_id):
            self.report.late += 1
            return False
        self.report.first_id, self.report.first_offset = first_id, offset
        self._floor = self._run_begin = first_id
        return True

    def _is_earlier(self, first_id: int, last_id: int, time: int) -> bool:
        """Return whether a record from before a restart comes again. The ids of a real restart may
        be the same, but their times are younger.
        """
        return any(
            run.first_id <= first_id and last_id <= run.last_id and time <= run.newest
            for run in self._earlier
        )

    def _step_back(self, first_id: int, last_id: int, offset: int, time: int) -> bool:
        """Handle a record below the expected id.

        It is late (inside an announced gap), a straggler, a duplicate, or a restart of the ids.
        """
        known = self._known(first_id, last_id)
        filled = self._missing.remove(*known)
        if 0 < known[1] - known[0] + 1 == filled:
            self._count_straggler(first_id, last_id, offset)
        elif self._restarts(first_id, last_id, offset, time):
            return True
        elif known[0] <= known[1]:
            self.report.repeated.add(offset, first_id)
        else:
            self._count_straggler(first_id, last_id, offset)
        return last_id >= self._next

    def _known(self, first_id: int, last_id: int) -> Ids:
        """Return the ids that the audit can classify as seen or missing, or an empty range."""
        floor = self._floor if self._contiguous else self._next - self._step
        return max(first_id, floor), min(last_id, self._next - 1)

    def _count_straggler(self, first_id: int, last_id: int, offset: int) -> None:
        if self._announced.covers(first_id, last_id):
            self.report.late += 1
        else:
            self.report.out_of_order.add(offset, first_id)

    def _restarts(self, first_id: int, last_id: int, offset: int, time: int) -> bool:
        """Return whether the ids restart here.

        If they do, judge all missing ids, because their records cannot come any more.
        """
        if not self._step:
            return False
        if self._announced.take_restart(time, is_far=first_id <= self._next // 2):
            self.report.restarts_announced.add(offset, first_id)
        elif first_id <= min(self._run_begin // 2, self._run_begin - RESTART_LEAST_DROP):
            self.report.restarts.add(offset, first_id)
        else:
            return False
        self._judge(self._missing.take(len(self._missing)))
        self._claims.forget()
        self.report.later_than_claimed = Places()
        self._earlier.append(Run(self._run_begin, self._next - self._step, self._newest))
        del self._earlier[:-MAX_RUNS]
        if self._is_earlier(first_id, last_id, time):
            self.report.repeated.add(offset, first_id)
        self._floor = self._run_begin = first_id
        return True

    def _judge_early(self) -> None:
        ranges = self._missing.take(OPEN_MAX_RANGES // 2)
        self._judge(ranges)
        self.report.aggregated += len(ranges)
        self._floor = ranges[-1][1] + 1

    def _judge(self, ranges: list[Ids]) -> None:
        """Count ranges as missing, by what was announced about them."""
        for first, last in ranges:
            for begin, end, said in self._announced.split(first, last):
                found = MissingRange(begin, end, end - begin + 1)
                if said is None:
                    self.report.missing.add(found)
                    continue
                found.cause, found.state = said.cause, said.state
                filled = said.state == "filled"
                report = self.report
                missing = report.missing_filled if filled else report.missing_announced
                missing.add(found)
