"""Everything breaks, one after the other, under a flow: every trade is in Kafka exactly once and in
order, quotes are once and in order, and what interrupted them is announced.

The exchange's history is the truth, and `tickbridge audit` has to agree, which does not know it.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from bridge.settings import Kafka as KafkaSettings
from bridge.tools.audit.run import audit_topic
from tests.faults import recovery, verdict
from tests.faults.brokers import KafkaCluster
from tests.faults.disk import small_disk
from tests.faults.environment import Environment, Ground, Samples
from tests.faults.profile import QUOTED, SYMBOLS
from tests.faults.reading import Read, closed, read_gaps, read_kind
from tests.faults.result import RESULT, Result, Tally, result_of
from tests.faults.scenario import Scenario
from tests.faults.scenarios import SCENARIOS
from tests.support.played import CONTIGUOUS, Ids, arrived, played_ids

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SOME = 5
CALM_AFTER_S = 1.0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_nothing_is_lost_repeated_or_disordered_when(
    scenario: Scenario,
    ground: Ground,
    record_property: Callable[[str, object], None],
    unique: str,
    tmp_path: Path,
) -> None:
    form = ground.form
    size = scenario.full if form.full else scenario.short
    if size is None:
        pytest.skip("takes too long for the short form")
    with ExitStack() as stack, Redis.from_url(ground.redis.url) as client:
        client.flushall()
        cluster = stack.enter_context(KafkaCluster()) if scenario.way == "cluster" else None
        data_dir = tmp_path / "data" if scenario.disk_mib else None
        is_small = not data_dir or stack.enter_context(small_disk(data_dir, scenario.disk_mib))
        if not (is_small or form.full):
            pytest.skip("a small disk cannot be mounted here, and to fill a larger takes too long")
        stage = Environment(ground, unique, tmp_path, cluster, data_dir)
        replicas = 3 if cluster else 1
        stage.kafka.create_topic(f"{unique}.binance.spot.trade", replicas)
        stack.callback(stage.kafka.delete_topics, unique)
        through = ground.kafka.proxied_servers if scenario.way == "proxy" else None
        servers = through or stage.kafka.bootstrap_servers
        async with stage.open(scenario.plan(size, form.calm_s), scenario.settings, servers):
            await stage.rest(form.calm_s)
            await scenario.fault_action(stage, size)
            await stage.rest(CALM_AFTER_S)
            wanted = played_ids(stage.exchange, SYMBOLS)
            await arrived(stage.kafka.bootstrap_servers, unique, wanted, stage.is_fresh)
            await closed(stage.kafka.bootstrap_servers, unique)
            samples = await stage.samples()
            stage.note_memory()
            until_ms = stage.market_ms(time.time())
            code = await stage.bridge.stop()
        result, wrong = await _judge(scenario, stage, wanted, until_ms)
        wrong += [f"the bridge ended with {code}"] if code else []
        wrong += _wrong_beside(scenario, stage, samples)
        wrong += await _audit_findings(stage)
    assert not wrong, f"{form}\n" + "\n".join(wrong)
    record_property(RESULT, tuple(result))  # a plain type can leave this process


async def _judge(
    scenario: Scenario, stage: Environment, wanted: Ids, until_ms: float
) -> tuple[Result, list[str]]:
    """Return the result, and what of it is not as promised. The bridge ran until `until_ms`."""
    servers, unique = stage.kafka.bootstrap_servers, stage.unique
    found = {kind: await read_kind(servers, unique, kind) for kind in CONTIGUOUS}
    gaps = await read_gaps(servers, unique)
    trades = Tally()
    for kind, name in CONTIGUOUS.items():
        played = {s: stage.exchange.history.played(f"{s.lower()}@{name}") for s in SYMBOLS}
        trades.add(verdict.judge_trades(kind, found[kind], played, wanted, gaps))
    quoted = await read_kind(servers, unique, "quote")
    quotes = verdict.judge_quotes(quoted, stage.observer.quotes, gaps)
    recoveries = _recoveries_s(scenario, stage, found["trade"], until_ms)
    known = tuple(seconds for seconds in recoveries if seconds < math.inf)
    rate = stage.trades_per_second()
    result = result_of(scenario.title, rate, (trades, quotes), known, stage.peak_kib / 1024)
    wrong = [
        f"{name}: {tally}"
        for name, tally in (("trades", trades), ("quotes", quotes))
        if tally.lost or tally.repeated or tally.disordered or tally.wrong or not tally.events
    ]
    if stage.form.is_for_the_record and rate < stage.form.trades_per_second:
        wrong.append(f"the exchange has played {rate:.0f} trades a second only")
    wrong += [f"never recovered: {recoveries}"] if len(known) < len(recoveries) else []
    wrong += [] if recoveries else ["nothing was broken, or no symbol has traded since"]
    wrong += [f"open for ever: {text}" for text in verdict.left_open(gaps)[:SOME]]
    unexpected = [gap for gap in gaps if not verdict.may_be_seen(scenario, gap)]
    return result, wrong + [f"a gap nobody should see: {gap}" for gap in unexpected[:SOME]]


def _recoveries_s(
    scenario: Scenario, stage: Environment, trades: Mapping[str, Sequence[Read]], until_ms: float
) -> list[float]:
    """Return how long it took after each fault, in seconds; infinite where it never ended."""
    if scenario.recovers_in == "kafka":
        seen = recovery.seen_in_kafka(stage, trades)
    else:
        seen = recovery.seen_in_redis(stage, stage.watch.looks)
    made_ms = stage.made_ms()
    all_s = [
        recovery.recovery_s(made_ms, seen, stage.market_ms(end_s), until_ms)
        for end_s in recovery.fault_ends_s(stage)
    ]
    return [seconds for seconds in all_s if seconds is not None]


def _wrong_beside(scenario: Scenario, stage: Environment, samples: Samples) -> list[str]:
    """What Redis showed, the log says, the accounts and the memory are."""
    wrong = [f"Redis went back: {text}" for text in stage.watch.went_back[:SOME]]
    if not scenario.may_tear:
        wrong += [f"two prices: {text}" for text in stage.watch.torn[:SOME]]
    truth = {
        (symbol, trade.id, trade.price, trade.time_ms * 1000)
        for symbol in SYMBOLS
        for trade in stage.exchange.history.played(f"{symbol.lower()}@trade")
    }
    wrong += [f"no such trade: {shown}" for shown in list(stage.watch.shown - truth)[:SOME]]
    told = [line for life in stage.lives for line in life.log]
    expected = scenario.expected | {scenario.shows}
    unexplained = [
        line
        for line in told
        if line["level"] not in {"debug", "info"} and line["event"] not in expected
    ]
    wrong += [f"not explained: {line}" for line in unexplained[:SOME]]
    if scenario.shows and scenario.shows not in {line["event"] for line in told}:
        wrong.append(f"no {scenario.shows} in the log: nothing was broken")
    wrong += verdict.unbalanced(samples)
    drops = verdict.dropped(samples)
    wrong += [f"dropped: {drops}"] if drops.keys() - scenario.drops else []
    if stage.peak_kib > scenario.memory_mib * 1024:
        wrong.append(f"memory {stage.peak_kib / 1024:.0f} MiB above {scenario.memory_mib} MiB")
    return wrong


async def _audit_findings(stage: Environment) -> list[str]:
    """What the audit, which knows nothing of all this, finds."""
    options = KafkaSettings.model_validate(
        {
            "bootstrap_servers": stage.kafka.bootstrap_servers,
            "topic": stage.unique + ".{venue}.{message_type}",
        }
    )
    reports = [await audit_topic(options, kind) for kind in (*CONTIGUOUS, "quote")]
    for report in reports:
        symbols = {stream.symbol for stream in report.symbols}
        assert symbols == set(QUOTED if report.kind == "quote" else SYMBOLS)
    return [f"{r.kind}: {found.text}" for r in reports for found in r.findings]
