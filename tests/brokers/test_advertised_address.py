"""A broker that names an address to its clients at which it cannot be reached."""

from collections.abc import Awaitable, Callable

import pytest

from bridge import settings
from bridge.brokers.kafka_reader import TopicReader
from bridge.errors import SinkUnavailable
from bridge.settings import Cluster
from bridge.sinks.kafka.fence import Fence
from bridge.sinks.kafka.owner import this_bridge
from bridge.sinks.kafka.producer import StateTopics, open_producer
from bridge.sinks.kafka.producer_state import ProducerState
from tests.sinks.kafka.test_sink import options_for
from tests.support.brokers import Kafka, wrongly_advertised

pytestmark = pytest.mark.timeout(60)


async def start_producer(options: settings.Kafka) -> None:
    await open_producer(options, ProducerState())


async def raise_fence(options: settings.Kafka) -> None:
    topics = StateTopics("venue.position", "venue.status")
    await Fence(options, topics, ProducerState(), this_bridge(Cluster())).raise_around(
        ["venue.trade"]
    )


async def open_reader(options: settings.Kafka) -> None:
    async with TopicReader(options):
        pass


@pytest.mark.parametrize("start", [start_producer, raise_fence, open_reader])
async def test_the_error_names_the_address_that_cannot_be_reached(
    kafka: Kafka, start: Callable[[settings.Kafka], Awaitable[None]]
) -> None:
    async with wrongly_advertised(kafka) as (servers, advertised):
        expected = (
            f"Kafka at {servers}: broker 1 advertises {advertised}, which cannot be reached "
            "from here .*; check advertised.listeners of the broker"
        )
        with pytest.raises(SinkUnavailable, match=expected):
            await start(options_for(servers, request_timeout_ms=2000))
