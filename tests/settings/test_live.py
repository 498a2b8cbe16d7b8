"""Changed settings: those that take effect at once, and those that need a restart."""

from typing import Any

from bridge.settings import Settings, load_settings, waiting_for_a_restart, with_streams_of

BEFORE: dict[str, Any] = {
    "binance": {"symbols": ["BTCUSDT"], "streams": ["trade"]},
    "kafka": {"bootstrap_servers": "a:9092"},
    "redis": {"url": "redis://:secret-1@cache:6379/0"},
}


def settings(**sections: dict[str, Any]) -> Settings:
    merged = {name: BEFORE.get(name, {}) | sections.get(name, {}) for name in BEFORE | sections}
    return load_settings(environment={}, overrides=merged)


def test_symbols_and_streams_count_at_once() -> None:
    binance = {"symbols": ["ETHUSDT"], "streams": ["bookTicker"]}
    changed = settings(binance=binance | {"extra_streams": ["!miniTicker@arr"]})
    assert waiting_for_a_restart(settings(), changed) == []
    assert with_streams_of(settings(), changed) == changed


def test_everything_else_waits_for_a_restart_and_is_named_without_its_value() -> None:
    changed = settings(
        binance={"symbols": ["ETHUSDT"], "redundancy": 2},
        redis={"url": "redis://:secret-2@cache:6379/0"},
        log={"level": "debug"},
    )
    assert waiting_for_a_restart(settings(), changed) == [
        "binance.redundancy",
        "redis.url",
        "log.level",
    ]
    in_force = with_streams_of(settings(), changed)
    assert in_force.binance.symbols == ["ETHUSDT"]
    assert (in_force.binance.redundancy, in_force.redis, in_force.log.level) == (
        *(1, settings().redis, "info"),
    )


def test_settings_that_say_the_same_differ_in_nothing() -> None:
    assert waiting_for_a_restart(settings(), settings()) == []
