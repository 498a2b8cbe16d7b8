"""The outcome of a reload of the settings."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import pytest

from bridge.app.reload import Reloader
from bridge.core.binance.subscription import Change
from bridge.errors import FeedRefused, Problem, SettingsError, SinkUnavailable, TickbridgeError
from bridge.settings import Settings, load_settings
from bridge.telemetry import RELOAD_OUTCOMES, ReloadOutcome, Reloads
from tests.support.journal import Journal, journal_kept

T = TypeVar("T")

TIMEOUT_S = 5
ADDED = Change(["ethusdt@trade"], [])
NOTHING = Change([], [])


def settings(*symbols: str, **log: str) -> Settings:
    overrides = {"binance": {"symbols": list(symbols)}, "log": log}
    return load_settings(environment={}, overrides=overrides)


class Bridge:
    """A source of settings, and a feed that accepts or refuses them."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.reloads = Reloads()
        self.now: Settings | TickbridgeError = settings("BTCUSDT")
        self.answer: Change | TickbridgeError = ADDED
        self.taken: list[Settings] = []
        self._notice: Callable[[], None] = lambda: None

    async def read(self) -> Settings:
        return _result(self.now)

    @contextmanager
    def noticed(self, notice: Callable[[], None]) -> Iterator[None]:
        self._notice = notice
        yield

    async def change(self, changed: Settings) -> Change:
        self.taken.append(changed)
        return _result(self.answer)

    async def reload(self, now: Settings | TickbridgeError) -> ReloadOutcome:
        """Change the settings, and return the outcome of the reload."""
        self.now = now
        before = self.reloads.outcomes.copy()
        self._notice()
        async with asyncio.timeout(TIMEOUT_S):
            while self.reloads.outcomes == before:  # noqa: ASYNC110 - a counter has no event
                await asyncio.sleep(0)
        ((outcome, count),) = (self.reloads.outcomes - before).items()
        assert count == 1
        return outcome


def _result(value: T | TickbridgeError) -> T:
    if isinstance(value, TickbridgeError):
        raise value
    return value


@asynccontextmanager
async def bridge() -> AsyncIterator[Bridge]:
    with journal_kept() as journal:
        made = Bridge(journal)
        running = asyncio.create_task(
            Reloader(settings("BTCUSDT"), made, made.change, made.reloads).run()
        )
        await asyncio.sleep(0)
        yield made
        running.cancel()
        await asyncio.wait((running,))


async def test_other_streams_are_put_in_force_and_said() -> None:
    async with bridge() as made:
        since_s = made.reloads.since_s
        assert await made.reload(settings("BTCUSDT", "ETHUSDT")) == "changed"
        assert made.taken == [settings("BTCUSDT", "ETHUSDT")]
        assert made.reloads.since_s > since_s
        (entry,) = made.journal.named("settings_read")
        assert (entry["added"], entry["removed"]) == (["ethusdt@trade"], [])


async def test_the_same_settings_are_put_in_force_again_for_the_exchange_may_list_others() -> None:
    async with bridge() as made:
        made.answer = NOTHING
        assert await made.reload(settings("BTCUSDT")) == "unchanged"
        assert made.taken == [settings("BTCUSDT")]


async def test_what_waits_for_a_restart_is_named_each_time_and_left_as_it_was() -> None:
    async with bridge() as made:
        for _ in range(2):
            await made.reload(settings("ETHUSDT", level="debug"))
            assert made.reloads.waiting == ["log.level"]
        assert made.taken == [settings("ETHUSDT")] * 2
        assert [e["settings"] for e in made.journal.named("settings_need_restart")] == [
            *(["log.level"], ["log.level"])
        ]
        await made.reload(settings("ETHUSDT"))
        assert made.reloads.waiting == []


async def test_settings_that_are_none_change_nothing_and_say_why() -> None:
    problem = Problem("binance.symbols", "['btc']", "is no symbol", "write BTCUSDT")
    async with bridge() as made:
        assert await made.reload(SettingsError([problem])) == "invalid"
        assert made.taken == []
        assert made.journal.named("settings_invalid")[0]["error"] == str(problem)
        assert await made.reload(settings("ETHUSDT")) == "changed"


@pytest.mark.parametrize(
    "error",
    [
        FeedRefused("HTTP 451", "take another host"),
        SettingsError([Problem("binance.symbols", None, "no such symbol", "name others")]),
        SinkUnavailable("Kafka has none of the topics x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_exchange_or_kafka_refuses_is_said_and_the_next_is_taken(
    error: TickbridgeError,
) -> None:
    async with bridge() as made:
        made.answer = error
        assert await made.reload(settings("ETHUSDT")) == "refused"
        assert made.journal.named("settings_refused")[0]["error"] == str(error)
        made.answer = ADDED
        assert await made.reload(settings("ETHUSDT")) == "changed"


def test_every_outcome_has_a_name_in_the_metrics() -> None:
    assert set(RELOAD_OUTCOMES) == {"changed", "unchanged", "invalid", "refused"}
