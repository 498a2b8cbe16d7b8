"""The root of the settings, and the small sections `http`, `log` and `status`."""

from typing import Annotated, Literal

from pydantic import ByteSize, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge.settings.binance import Binance
from bridge.settings.cluster import Cluster
from bridge.settings.kafka import Kafka
from bridge.settings.redis import Redis
from bridge.settings.repair import Repair
from bridge.settings.room import disk_bytes, human
from bridge.settings.section import Seconds, Section
from bridge.settings.types import AnyCase, Size, WritableFolder, WrongValue

PREFIX = "TICKBRIDGE_"
NESTING = "__"


class Http(Section):
    """The HTTP server for health, metrics and status."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; 0.0.0.0: all addresses."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0: any free port."""
    dashboard: bool = True
    """Whether `/` shows the dashboard. Without it `/` lists the other paths."""


class Status(Section):
    """The status of each symbol, for consumers."""

    interval_s: float = Field(default=5, ge=1, le=300)
    """How often the status of each symbol is published, in seconds. Changes are published within
    a second. The heartbeat in Redis expires after three intervals."""


class Log(Section):
    """The log on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error", "critical"], AnyCase] = "info"
    """Minimum severity to log."""
    format: Literal["auto", "json", "console"] = "auto"
    """Format of a line; auto: console in a terminal, json otherwise."""


class Settings(BaseSettings):
    """All settings. The class reads no source; `load_settings` does."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        env_prefix=PREFIX,
        env_nested_delimiter=NESTING,
        enable_decoding=False,
    )

    binance: Binance
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    repair: Repair = Repair()
    cluster: Cluster = Cluster()
    status: Status = Status()
    http: Http = Http()
    log: Log = Log()
    shutdown_timeout_s: Seconds = 20
    """Maximum time to deliver waiting records after SIGTERM, in seconds."""
    data_dir: WritableFolder | None = None
    """Folder for records that wait for Kafka and do not fit in memory. It is created if its parent
    exists. No other bridge may use it."""
    spill_max_bytes: Size = Field(default=ByteSize(4 * 2**30), ge=64 * 2**20, le=2**44)
    """Maximum disk space to use in data_dir, in bytes or with a unit (4GiB)."""

    @field_validator("cluster")
    @classmethod
    def _fits_kafka(cls, cluster: Cluster, info: ValidationInfo) -> Cluster:
        kafka = info.data.get("kafka")
        if kafka is None:
            return cluster
        named = "standby: 1" if cluster.standby else f"shards: {cluster.shards}"
        if kafka.transactional_id == "" and cluster.has_group:
            raise WrongValue(
                f"{named} needs the fence of kafka.transactional_id, which is switched off",
                f"remove kafka.transactional_id, or cluster.{named.partition(':')[0]}",
            )
        if kafka.partitions % cluster.shards:
            raise WrongValue(
                f"shards: {cluster.shards} does not divide the {kafka.partitions} of "
                "kafka.partitions, and no two shards may write to one partition",
                f"set cluster.shards to one of {_divisors(kafka.partitions)}, or change "
                "kafka.partitions before the topics are created",
            )
        return cluster

    @field_validator("spill_max_bytes")
    @classmethod
    def _room_somewhere(cls, size: ByteSize, info: ValidationInfo) -> ByteSize:
        is_default = size == cls.model_fields["spill_max_bytes"].default
        if not is_default and info.data.get("data_dir", size) is None:
            raise WrongValue("has no effect without data_dir", "set data_dir, or remove it")
        if folder := info.data.get("data_dir"):
            disk = disk_bytes(folder)
            if size > disk:
                raise WrongValue(
                    f"is more than the disk of data_dir has ({human(disk)})",
                    "set it lower, or use a larger disk",
                )
        return size

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the arguments: Settings built by hand do not depend on the environment."""
        return (init_settings,)


def _divisors(number: int) -> str:
    return ", ".join(str(each) for each in range(1, min(number, 64) + 1) if number % each == 0)
