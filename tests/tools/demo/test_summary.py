from dataclasses import replace

from rich.console import Console

from bridge.tools.demo.figures import Account
from bridge.tools.demo.latency import Quantiles
from bridge.tools.demo.summary import Summary, Topic, print_summary

WELL = Summary(
    source="the simulator",
    duration_s=10.0,
    first_message_s=0.4,
    received={"trade": 900, "quote": 100},
    most_in_a_second=150,
    accounts=[Account("kafka", 1000, 0, 0), Account("redis", 1000, 0, 0)],
    latencies={"kafka": Quantiles(0.0012, 0.0051), "redis": Quantiles(0.003, 1.25)},
    topics=[Topic("binance.spot.trade", 900, 900), Topic("binance.spot.quote", 100, 100)],
    heard=1000,
    reconnects=0,
)


def printed(summary: Summary, width: int = 100) -> str:
    console = Console(force_terminal=False, width=width)
    with console.capture() as capture:
        print_summary(console, summary)
    return capture.get()


def test_a_run_that_lost_nothing_has_no_failures() -> None:
    assert WELL.failures() == []
    assert printed(WELL).endswith("All delivered.\n")


def test_the_rate_is_given_on_average_and_at_most() -> None:
    assert "100/s on average, 150 at most" in printed(WELL)


def test_latencies_are_written_in_the_unit_that_suits() -> None:
    assert "1.2 ms  5.1 ms" in printed(WELL)
    assert "3.0 ms   1.2 s" in printed(WELL)


def test_no_name_is_cut_in_70_columns() -> None:
    many = replace(WELL, accounts=[Account(sink, 9_999_999, 0, 0) for sink in ("kafka", "redis")])
    assert "…" not in printed(many, 70)


def test_drops_and_what_is_pending_are_failures() -> None:
    lossy = replace(WELL, accounts=[Account("kafka", 990, 7, 3), WELL.accounts[1]])
    assert lossy.failures() == ["Kafka: 7 dropped and 3 undelivered of 1,000 messages"]
    assert "FAILED: Kafka: 7 dropped" in printed(lossy)
    assert "All delivered" not in printed(lossy)


def test_accounts_that_do_not_add_up_are_a_failure() -> None:
    wrong = replace(WELL, accounts=[Account("kafka", 999, 0, 0), WELL.accounts[1]])
    assert wrong.failures() == ["Kafka: 999 counted, 1,000 received"]


def test_a_topic_that_holds_less_than_was_published_is_a_failure() -> None:
    short = replace(WELL, topics=[Topic("binance.spot.trade", 900, 899)])
    assert short.failures() == ["binance.spot.trade: 899 found, 900 published"]


def test_messages_the_subscriber_has_not_had_are_a_failure() -> None:
    assert replace(WELL, heard=998).failures() == [
        "Redis subscriber: 998 received, 1,000 published"
    ]


def test_a_run_in_which_nothing_came_proves_nothing() -> None:
    silent = replace(
        WELL,
        received={},
        first_message_s=None,
        accounts=[Account("kafka", 0, 0, 0), Account("redis", 0, 0, 0)],
        topics=[],
        heard=0,
    )
    assert silent.failures() == ["no message was received"]
