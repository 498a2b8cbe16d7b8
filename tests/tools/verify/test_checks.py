"""The checks of an observation: each one fails only for its own reasons."""

from collections.abc import Callable

import pytest

from bridge.tools.verify.checks import NAMED_MAX, checks
from bridge.tools.verify.report import Observation
from tests.support.verification import good


def texts(seen: Observation) -> dict[str, str]:
    return {check.name: check.text for check in checks(seen)}


def failed(seen: Observation) -> list[str]:
    return [check.name for check in checks(seen) if not check.passed]


def test_a_connection_without_a_fault_passes_every_check() -> None:
    assert failed(good()) == []
    assert texts(good()) == {
        "symbols": "3 listed, 9 streams",
        "handshake": "TLSv1.3 to 52.1.2.3:9443 in 84 ms; 3 pings answered, 11 ms to 15 ms",
        "connection": "1 of 1 open, first message after 340 ms, none lost",
        "messages": "1,321, 100 % valid",
        "streams": "9 of 9 heard",
        "order": "none missing of 800 trade; none repeated or out of order",
    }


def refused(seen: Observation) -> None:
    seen.refused.append("the exchange lists no symbol 'NOSUCHCOIN'")


def lost(seen: Observation) -> None:
    seen.connection.lost["ping_timeout"] = 2


def closed(seen: Observation) -> None:
    seen.connection.open = 0


def invalid(seen: Observation) -> None:
    seen.messages.invalid["malformed"] = 1


def unheard(seen: Observation) -> None:
    seen.never_heard += [f"s{number}@trade" for number in range(NAMED_MAX + 2)]


def found(seen: Observation) -> None:
    seen.findings.append("trade of BTCUSDT: 1 missing, not announced: 7")


def announced(seen: Observation) -> None:
    seen.messages.gaps["lost"] = 1


def unshaken(seen: Observation) -> None:
    seen.handshake, seen.handshake_error = None, "a ping was not answered"


def waiting(seen: Observation) -> None:
    seen.messages.held = 12


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (refused, "symbols", "lists no symbol 'NOSUCHCOIN'"),
        (unshaken, "handshake", "a ping was not answered"),
        (lost, "connection", "failed or lost: 2 ping_timeout"),
        (closed, "connection", "0 of 1 open"),
        (invalid, "messages", "99.92 % valid; 1 malformed"),
        (unheard, "streams", "s9@trade and 2 more; the market is quiet (raise --seconds)"),
        (found, "order", "1 missing, not announced: 7"),
        (announced, "order", "gap events: 1 lost"),
        (waiting, "order", "12 events wait for a hole"),
    ],
)
def test_what_is_wrong_fails_its_own_check_and_is_named(
    spoil: Callable[[Observation], None], name: str, words: str
) -> None:
    seen = good()
    spoil(seen)
    assert failed(seen) == [name]
    assert words in texts(seen)[name]


def test_connections_replaced_before_they_end_are_not_lost() -> None:
    seen = good()
    seen.connection.lost |= {"rotation": 1, "server_shutdown": 1, "streams_changed": 1}
    assert failed(seen) == []


def test_holes_that_rest_has_filled_are_told_and_well() -> None:
    seen = good()
    seen.messages.fetched = 17
    assert failed(seen) == []
    assert texts(seen)["order"].endswith("; 17 fetched over REST")


def test_nothing_at_all_proves_nothing() -> None:
    seen = good()
    seen.asked = seen.messages.events = 0
    seen.connection.first_message_s = None
    assert failed(seen) == ["symbols", "connection", "messages", "streams", "order"]


def test_where_ids_have_holes_of_their_own_no_completeness_is_claimed() -> None:
    seen = good()
    seen.proven.clear()
    assert texts(seen)["order"] == "none repeated or out of order"
