"""All settings, checked once at start.

`load_settings` merges the sources, and raises one error with every problem. The tree it returns is
frozen, and shows no secret when printed.
"""

from bridge.settings.binance import Binance
from bridge.settings.cluster import Cluster
from bridge.settings.kafka import Kafka
from bridge.settings.live import waiting_for_a_restart, with_streams_of
from bridge.settings.load import load_settings, masked, settings_file, settings_schema
from bridge.settings.model import Http, Log, Settings, Status
from bridge.settings.redis import Redis
from bridge.settings.repair import Repair

__all__ = [
    "Binance",
    "Cluster",
    "Http",
    "Kafka",
    "Log",
    "Redis",
    "Repair",
    "Settings",
    "Status",
    "load_settings",
    "masked",
    "settings_file",
    "settings_schema",
    "waiting_for_a_restart",
    "with_streams_of",
]
