"""The checks of an observation."""

from collections.abc import Iterator, Mapping

from bridge.errors import ReconnectCause
from bridge.monitoring.words import latency
from bridge.tools.verify.report import Check, Observation

# The number of stream names that a text lists.
NAMED_MAX = 10
# Planned reconnects: the new connection opens before the old one closes, so that nothing is lost.
_PLANNED = frozenset[ReconnectCause](("rotation", "server_shutdown", "streams_changed"))


def checks(seen: Observation) -> Iterator[Check]:
    """Yield the checks of the connection to the exchange."""
    yield _symbols(seen)
    yield _handshake(seen)
    yield _connection(seen)
    yield _messages(seen)
    yield _streams(seen)
    yield _order(seen)


def _symbols(seen: Observation) -> Check:
    text = f"{seen.symbols:,} listed, {seen.asked:,} streams"
    return Check("symbols", not seen.refused and seen.asked > 0, _joined(text, seen.refused))


def _handshake(seen: Observation) -> Check:
    handshake = seen.handshake
    if handshake is None:
        return Check("handshake", passed=False, text=seen.handshake_error)
    tls = f"{handshake.tls.version} to" if handshake.tls else "no TLS to"
    text = f"{tls} {handshake.address} in {latency(handshake.handshake_ms / 1000)}"
    pings_s = [each / 1000 for each in handshake.pings_ms]
    spread = f"{latency(min(pings_s))} to {latency(max(pings_s))}"
    pings = f"{len(pings_s)} pings answered, {spread}"
    return Check("handshake", passed=True, text=_joined(text, [pings]))


def _connection(seen: Observation) -> Check:
    connection = seen.connection
    lost = {cause: n for cause, n in connection.lost.items() if cause not in _PLANNED}
    first_s = connection.first_message_s
    first = "no message" if first_s is None else f"first message after {latency(first_s)}"
    failed = f"failed or lost: {_counts(lost)}" if lost else "none lost"
    passed = first_s is not None and not lost and connection.open == connection.connectors
    return Check(
        "connection",
        passed,
        f"{connection.open} of {connection.connectors} open, {first}, {failed}",
    )


def _messages(seen: Observation) -> Check:
    messages = seen.messages
    invalid = sum(messages.invalid.values())
    total = messages.events + invalid
    share = 100 * messages.events / total if total else 0.0
    text = f"{total:,}, {share:.{0 if share in {0, 100} else 2}f} % valid"
    wrong = [_counts(messages.invalid)] if invalid else []
    return Check("messages", total > 0 and not invalid, _joined(text, wrong))


def _streams(seen: Observation) -> Check:
    without_data = seen.never_heard
    text = f"{seen.asked - len(without_data):,} of {seen.asked:,} heard"
    if not without_data:
        return Check("streams", seen.asked > 0, text)
    more = f" and {len(without_data) - NAMED_MAX:,} more" if len(without_data) > NAMED_MAX else ""
    never = f"no data from: {', '.join(without_data[:NAMED_MAX])}{more}"
    remedy = "the market is quiet (raise --seconds), or the exchange does not know the name"
    return Check("streams", passed=False, text=_joined(text, [never, remedy]))


def _order(seen: Observation) -> Check:
    messages = seen.messages
    wrong = list(seen.findings)
    if messages.gaps:
        wrong.append(f"gap events: {_counts(messages.gaps)}")
    if messages.held:
        wrong.append(f"{messages.held:,} events wait for a hole that is being fetched")
    if wrong:
        return Check("order", passed=False, text="; ".join(wrong))
    if not messages.events:
        return Check("order", passed=False, text="no events")
    whole = ", ".join(f"{count:,} {kind}" for kind, count in seen.proven.items())
    text = f"none missing of {whole}; " if whole else ""
    fetched = [f"{messages.fetched:,} fetched over REST"] if messages.fetched else []
    return Check(
        "order", passed=True, text=_joined(f"{text}none repeated or out of order", fetched)
    )


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in of.items())


def _joined(text: str, more: list[str]) -> str:
    return "; ".join((text, *more))
