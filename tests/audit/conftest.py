"""Topics of a test's own, and the command that audits them."""

import pytest

from bridge import settings
from tests.brokers import Kafka
from tests.client.publishing import kafka_options
from tests.commands.conftest import _logs_as_before, elsewhere, tickbridge

__all__ = ["_logs_as_before", "elsewhere", "options", "tickbridge"]


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    """The run's Kafka, with topics of the test's own."""
    return kafka_options(kafka, unique)
