"""Topics that each test has for itself, and the command that audits them."""

import pytest

from bridge import settings
from tests.cli.conftest import _logs_as_before, elsewhere, tickbridge
from tests.support.brokers import Kafka
from tests.support.publishing import kafka_options

__all__ = ["_logs_as_before", "elsewhere", "options", "tickbridge"]


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    """Return the options of the shared Kafka, with topics that only this test uses."""
    return kafka_options(kafka, unique)
