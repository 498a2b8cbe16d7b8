"""Topics that each test has for itself, and the command that audits them."""

import pytest
from typer.testing import Result

from bridge import settings
from tests.cli.conftest import Run, _logs_as_before, elsewhere, tickbridge
from tests.support.brokers import Kafka
from tests.support.publishing import kafka_options

__all__ = ["_logs_as_before", "elsewhere", "options", "tickbridge"]


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    """Return the options of the shared Kafka, with topics that only this test uses."""
    return kafka_options(kafka, unique)


@pytest.fixture
def run(tickbridge: Run, options: settings.Kafka) -> Run:
    """Return a function that runs `audit` on the topics of the test."""

    def audit(*arguments: str) -> Result:
        servers = options.bootstrap_servers[0]
        return tickbridge(
            "audit", "--kafka", servers, *arguments, TICKBRIDGE_KAFKA__TOPIC=options.topic
        )

    return audit
