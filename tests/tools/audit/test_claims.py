"""What statuses claim is compared with the records: ids that are not there, and records that come
after a status has said that nothing up to their time is missing.
"""

import pytest

from bridge.core.model.events import STATUS, SymbolStatus
from bridge.tools.audit import claims as bounds
from bridge.tools.audit.claims import AllClaims, Claim, Claims, StatusRecord
from tests.support.audit import announced, audited, event, gap, ids_at


def claimed(*pairs: tuple[int, int]) -> Claims:
    claims = Claims()
    for pair in pairs:
        claims.add(Claim(*pair))
    return claims


def test_true_claims_are_no_finding() -> None:
    claims = claimed((2, 25), (4, 45))
    report = audited([1, 2, 3, 4, 5], times=[10, 20, 30, 40, 50], claims=claims)
    assert ids_at(report.later_than_claimed) == []
    assert report.claimed_id is None


def test_a_record_that_was_missing_although_its_time_was_claimed_is_found() -> None:
    """Whichever status claimed it, and although later ones are true."""
    claims = claimed((2, 30), (4, 45))
    report = audited([1, 2, 3, 4, 5], times=[10, 20, 30, 40, 50], claims=claims)
    assert ids_at(report.later_than_claimed) == [3]


@pytest.mark.parametrize(
    ("times", "early", "wrong"),
    [
        ([10, 20, 30, 5, 50], [4], []),
        ([10, 20, 90, 15, 50], [4], []),
        ([10, 20, 30, 30, 50], [], [4]),
        ([10, 20, 90, 20, 50], [], [4]),
        ([10, 20, 5, 15, 50], [], [4]),
    ],
    ids=[
        "early",
        "after one ahead",
        "same time",
        "as late as the one before",
        "after an early one",
    ],
)
def test_no_status_can_know_of_a_record_that_is_dated_earlier_than_those_before_it(
    times: list[int], early: list[int], wrong: list[int]
) -> None:
    report = audited([1, 2, 3, 4, 5], times=times, claims=claimed((3, 30)))
    assert ids_at(report.dated_early) == early
    assert ids_at(report.later_than_claimed) == wrong


def test_a_topic_that_ends_before_a_claimed_id_is_found() -> None:
    report = audited([1, 2, 3], times=[10, 20, 30], claims=claimed((2, 20), (5, 50)))
    assert (report.claimed_id, report.last_id) == (5, 3)


def test_a_record_that_comes_late_into_an_announced_gap_breaks_no_claim() -> None:
    claims = claimed((4, 40))
    said = announced(gap(2, 3))
    report = audited([1, 4, 2, 3], times=[10, 40, 20, 30], said=said, claims=claims)
    assert ids_at(report.later_than_claimed) == []


def test_a_symbol_without_records_breaks_no_claim() -> None:
    """The claim may be about trades from before the first start."""
    assert audited([], claims=claimed((5, 50))).claimed_id is None


def test_nothing_is_claimed_across_a_restart_of_the_ids() -> None:
    assert not claimed((900, 90), (3, 100))
    assert not claimed((900, 90), (3, 100), (4, 110))
    said = announced(gap(None, None, "lost", cause="ids_restarted"))
    report = audited([900, 901, 1, 2], times=[10, 20, 30, 40], said=said, claims=claimed((2, 40)))
    assert report.restarts_announced.count == 1
    assert ids_at(report.later_than_claimed) == []


def test_claims_over_the_bound_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_CLAIMS", 1)
    claims = claimed((2, 30), (4, 45))
    assert claims.until(4) == -1
    assert claims.until(5) == 45


def test_each_message_type_has_its_own_ids_and_an_unreadable_status_is_counted() -> None:
    known = {"trade_id": 7, "agg_trade_id": 3, "complete_to": 50}
    for kind, last_id in (("trade", 7), ("agg_trade", 3)):
        claims = AllClaims(kind)
        for value in (event(STATUS, **known), event(STATUS), event("trade", trade_id=1)):
            claims.observe(value)
        unknown = {"trade_id": None, "agg_trade_id": None, "complete_to": None}
        claims.observe(event(STATUS, **unknown))
        assert claims.of("BTCUSDT").last_id == last_id
        assert (claims.records, claims.unreadable) == (2, 2)
    assert not AllClaims("quote").is_made


def test_what_is_read_of_a_status_is_in_the_contract() -> None:
    assert set(StatusRecord.__struct_fields__) <= set(SymbolStatus.__struct_fields__)
    assert StatusRecord.__struct_config__.tag == SymbolStatus.__struct_config__.tag
