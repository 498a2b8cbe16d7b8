"""Each scenario breaks something under load.

Every trade is then in Kafka exactly once and in order. Quotes are there once and in order, and
gap events announce their interruptions. The exchange's history is the truth. `tickbridge audit`,
which does not know that history, must agree.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from bridge.tools.audit.run import audit_topic
from tests.faults import recovery, verdict
from tests.faults.bridges import Samples
from tests.faults.brokers import KafkaCluster
from tests.faults.disk import small_disk
from tests.faults.environment import Environment, Ground
from tests.faults.profile import QUOTED, SYMBOLS
from tests.faults.reading import Read, closed, read_gaps, read_kind
from tests.faults.result import RESULT, Result, Tally, result_of
from tests.faults.scenario import Scenario
from tests.faults.scenarios import SCENARIOS
from tests.support.played import CONTIGUOUS, Ids, arrived

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
    form = ground.form.with_load(scenario.load)
    ground = replace(ground, form=form)
    size = scenario.full if form.full else scenario.short
    if size is None:
        pytest.skip("takes too long for the short form")
    with ExitStack() as stack, Redis.from_url(ground.redis.url) as client:
        client.flushall()
        cluster = stack.enter_context(KafkaCluster()) if scenario.way == "cluster" else None
        data_dir = tmp_path / "data" if scenario.disk_mib else None
        is_small = not data_dir or stack.enter_context(small_disk(data_dir, scenario.disk_mib))
        if not (is_small or form.full):
            pytest.skip(
                "a small disk cannot be mounted here, and filling a larger one takes too long"
            )
        environment = Environment(
            ground, scenario, unique, folder=tmp_path, cluster=cluster, data_dir=data_dir
        )
        environment.kafka.create_topic(f"{unique}.binance.spot.trade", scenario.replicas)
        stack.callback(environment.kafka.delete_topics, unique)
        async with environment.open(size):
            await environment.rest(form.calm_s)
            await scenario.fault_action(environment, size)
            await environment.rest(CALM_AFTER_S)
            wanted = environment.played_ids()
            await arrived(
                environment.kafka.bootstrap_servers,
                unique,
                wanted,
                environment.is_fresh,
                environment.number,
            )
            await closed(environment)
            if scenario.recovers_in == "redis":
                await recovery.recovered_in_redis(environment)
            until_ms = environment.market_ms(time.time())
            samples = await environment.bridges.samples()
            codes = await environment.bridges.stop()
        result, wrong = await _judge(environment, wanted, until_ms)
        wrong += [f"a bridge exited with {code}" for code in codes if code]
        wrong += _wrong_beside(environment, samples)
        wrong += await _audit_findings(environment)
    assert not wrong, f"{form}\n" + "\n".join(wrong)
    record_property(RESULT, tuple(result))  # a plain tuple can be sent to another process


async def _judge(
    environment: Environment, wanted: Ids, until_ms: float
) -> tuple[Result, list[str]]:
    """Return the result and the broken promises. The bridges ran until `until_ms`."""
    scenario = environment.scenario
    found = {kind: await read_kind(environment, kind) for kind in CONTIGUOUS}
    gaps = await read_gaps(environment)
    trades = Tally()
    for kind in CONTIGUOUS:
        played = environment.played(kind)
        trades.add(verdict.judge_trades(kind, found[kind], played, wanted, gaps))
    quoted = await read_kind(environment, "quote")
    quotes = verdict.judge_quotes(quoted, environment.observer.quotes, gaps)
    candles = verdict.judge_candles(await read_kind(environment, "candle"), gaps)
    recoveries = _recoveries_s(environment, found["trade"], until_ms)
    known = tuple(seconds for seconds in recoveries if seconds < math.inf)
    rate = environment.trades_per_second()
    peak_mib = environment.bridges.peak_kib / 1024
    result = result_of(scenario.title, rate, (trades, quotes), known, peak_mib)
    wrong = [
        f"{name}: {tally}"
        for name, tally in (("trades", trades), ("quotes", quotes), ("candles", candles))
        if tally.lost or tally.repeated or tally.disordered or tally.wrong or not tally.events
    ]
    if environment.form.is_for_the_record and rate < environment.form.trades_per_second:
        wrong.append(f"the exchange has played only {rate:.0f} trades a second")
    wrong += [f"never recovered: {recoveries}"] if len(known) < len(recoveries) else []
    wrong += [] if recoveries else ["nothing was broken, or no symbol has traded since"]
    wrong += [f"still open: {text}" for text in verdict.left_open(gaps)[:SOME]]
    if (restarted := verdict.restarted(gaps)) != environment.restarted:
        wrong.append(f"restarts of the ids: {environment.restarted}, announced: {restarted}")
    for kind in CONTIGUOUS:
        age_s = verdict.oldest_s(kind, found[kind], gaps, environment.market_ms)
        if age_s > scenario.max_age_s:
            wrong.append(f"{kind}: written {age_s:.1f} s late, above {scenario.max_age_s:g} s")
    unexpected = [gap for gap in gaps if not verdict.may_be_seen(scenario, gap)]
    return result, wrong + [f"unexpected gap: {gap}" for gap in unexpected[:SOME]]


def _recoveries_s(
    environment: Environment, trades: Mapping[str, Sequence[Read]], until_ms: float
) -> list[float]:
    """Return the recovery times of all faults in seconds; infinite if there was no recovery."""
    if environment.scenario.recovers_in == "kafka":
        seen = recovery.seen_in_kafka(environment, trades)
    else:
        seen = recovery.seen_in_redis(environment, environment.watch.looks)
    return recovery.recoveries_s(environment, seen, until_ms)


def _wrong_beside(environment: Environment, samples: Sequence[Samples]) -> list[str]:
    """Return the problems in Redis, the logs, the accounts and the memory."""
    scenario, bridges = environment.scenario, environment.bridges
    wrong = [f"Redis went back: {text}" for text in environment.watch.went_back[:SOME]]
    if not scenario.may_tear:
        wrong += [f"two prices: {text}" for text in environment.watch.torn[:SOME]]
    truth = {
        (symbol, trade.id, trade.price, trade.time_ms * 1000)
        for symbol, trades in environment.played("trade").items()
        for trade in trades
    }
    wrong += [f"no such trade: {shown}" for shown in list(environment.watch.shown - truth)[:SOME]]
    told = [line for life in bridges.lives for line in life.log]
    expected = scenario.expected | {scenario.shows}
    unexplained = [
        line
        for line in told
        if line["level"] not in {"debug", "info"} and line["event"] not in expected
    ]
    wrong += [f"not explained: {line}" for line in unexplained[:SOME]]
    if scenario.shows and scenario.shows not in {line["event"] for line in told}:
        wrong.append(f"no {scenario.shows} in the log: nothing was broken")
    for of_bridge in samples:
        wrong += verdict.unbalanced(of_bridge)
        drops = verdict.dropped(of_bridge)
        wrong += [f"dropped: {drops}"] if drops.keys() - scenario.allowed_drops else []
    if bridges.peak_kib > scenario.memory_mib * 1024:
        wrong.append(f"memory {bridges.peak_kib / 1024:.0f} MiB above {scenario.memory_mib} MiB")
    return wrong


async def _audit_findings(environment: Environment) -> list[str]:
    """Return the findings of the audit, which does not know the exchange's history."""
    options = environment.options
    reports = [await audit_topic(options, kind) for kind in (*CONTIGUOUS, "quote", "candle")]
    for report in reports:
        symbols = {stream.symbol for stream in report.symbols}
        assert symbols == set(SYMBOLS if report.kind in CONTIGUOUS else QUOTED)
    return [f"{r.kind}: {found.text}" for r in reports for found in r.findings]
