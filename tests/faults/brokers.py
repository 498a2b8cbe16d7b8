"""The Kafka servers of the fault tests: one broker with a proxy, and a cluster of three."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Self
from uuid import uuid4

from confluent_kafka import ElectionType, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic
from docker.models.networks import Network
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from testcontainers.core.container import DockerContainer

from bridge.tools.embedded import LOOPBACK, free_port
from tests.faults.toxiproxy import Toxiproxy
from tests.support.brokers import (
    INSIDE_ADDRESS,
    KAFKA_IMAGE,
    LISTENER_PORTS,
    START_TIMEOUT_S,
    KafkaBroker,
    listeners,
)

ADMIN_TIMEOUT_S = 30
CLUSTER_TIMEOUT_S = 120


class Administered:
    """The administration of a Kafka, as the fault tests need it."""

    bootstrap_servers: str

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def create_topic(self, name: str, replicas: int = 1) -> None:
        """Create a topic whose records carry the broker's time of arrival, not the exchange's.

        Recovery is measured by that time.
        """
        topic = NewTopic(
            name,
            num_partitions=6,
            replication_factor=replicas,
            config={
                "message.timestamp.type": "LogAppendTime",
                "min.insync.replicas": str(min(replicas, 2)),
            },
        )
        for created in self._admin.create_topics([topic]).values():
            created.result(ADMIN_TIMEOUT_S)

    def configure(self, topics: Sequence[str], name: str, value: str | None) -> None:
        """Change one setting of the topics; None restores the broker's value."""
        kind = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                topic,
                incremental_configs=[ConfigEntry(name, value, incremental_operation=kind)],
            )
            for topic in topics
        ]
        for changed in self._admin.incremental_alter_configs(resources).values():
            changed.result(ADMIN_TIMEOUT_S)

    def topics(self, prefix: str) -> list[str]:
        names: list[str] = sorted(self._admin.list_topics(timeout=ADMIN_TIMEOUT_S).topics)
        return [name for name in names if name.startswith(prefix)]

    def ends(self, topic: str) -> dict[int, int]:
        """Return the ends of the partitions of a topic that have a leader."""
        partitions = (
            self._admin.list_topics(topic, timeout=ADMIN_TIMEOUT_S).topics[topic].partitions
        )
        led = [TopicPartition(topic, n) for n, part in partitions.items() if part.leader >= 0]
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        found = self._admin.list_offsets(dict.fromkeys(led, latest))
        return {place.partition: one.result(ADMIN_TIMEOUT_S).offset for place, one in found.items()}

    def delete_topics(self, prefix: str) -> None:
        if names := self.topics(prefix):
            for deleted in self._admin.delete_topics(names).values():
                deleted.result(ADMIN_TIMEOUT_S)


class ProxiedKafka(KafkaBroker, Administered):
    """One broker; `proxied_servers` is its address through `proxy`."""

    def __init__(self, toxiproxy: str) -> None:
        super().__init__()
        port = free_port()
        self.proxy = Toxiproxy(toxiproxy, f"{self.host}:{port}")
        self.proxied_servers = f"{LOOPBACK}:{self.proxy.port}"
        self._container.with_bind_ports(LISTENER_PORTS["PROXIED"], port)
        self._container.with_envs(
            **listeners(
                TESTS=self.bootstrap_servers, INSIDE=INSIDE_ADDRESS, PROXIED=self.proxied_servers
            )
        )

    def __enter__(self) -> Self:
        self.proxy.__enter__()
        try:
            return super().__enter__()
        except BaseException:
            self.proxy.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        finally:
            self.proxy.__exit__()


class KafkaCluster(Administered):
    """Three brokers in a network of their own; all of them are controllers too."""

    SIZE = 3

    def __init__(self) -> None:
        self._ports = [free_port() for _ in range(self.SIZE)]
        self._brokers: list[DockerContainer] = []
        self._stack = ExitStack()
        self.bootstrap_servers = ",".join(f"{LOOPBACK}:{port}" for port in self._ports)

    def __enter__(self) -> Self:
        with self._stack:
            client = DockerContainer(KAFKA_IMAGE).get_docker_client().client
            network = client.networks.create(f"faults-{uuid4().hex[:12]}")
            self._stack.callback(network.remove)
            for number in range(1, self.SIZE + 1):
                broker = self._broker(number, network)
                self._stack.callback(broker.stop)
                self._brokers.append(broker.start())
            self._wait_until_whole()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stop(self, number: int) -> None:
        """Stop a broker cleanly: it hands over its partitions first."""
        self._brokers[number].get_wrapped_container().stop(timeout=START_TIMEOUT_S)

    def kill(self, number: int) -> None:
        self._brokers[number].get_wrapped_container().kill()

    def coordinator(self, group: str) -> int:
        """Return the number of the broker that coordinates a consumer group."""
        # A client that is older may ask the broker that was killed before.
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        described = admin.describe_consumer_groups([group])[group].result(ADMIN_TIMEOUT_S)
        return int(described.coordinator.id) - 1

    def start(self, number: int) -> None:
        """Start a broker again; return when it is in sync."""
        self._brokers[number].get_wrapped_container().start()
        self._wait_until_whole()

    def elect_preferred(self, topics: Sequence[str]) -> None:
        """Make the first replica of each partition its leader again."""
        partitions = [
            TopicPartition(name, partition)
            for name, topic in self._admin.list_topics(timeout=ADMIN_TIMEOUT_S).topics.items()
            if name in topics
            for partition in topic.partitions
        ]
        self._admin.elect_leaders(ElectionType.PREFERRED, partitions).result(ADMIN_TIMEOUT_S)

    def _broker(self, number: int, network: Network) -> DockerContainer:
        port = self._ports[number - 1]
        container = DockerContainer(KAFKA_IMAGE).with_bind_ports(LISTENER_PORTS["TESTS"], port)
        container.with_network(network).with_network_aliases(f"kafka{number}")
        return container.with_envs(
            KAFKA_NODE_ID=str(number),
            KAFKA_PROCESS_ROLES="broker,controller",
            **listeners(
                TESTS=f"{LOOPBACK}:{port}", INSIDE=f"kafka{number}:{LISTENER_PORTS['INSIDE']}"
            ),
            KAFKA_CONTROLLER_QUORUM_VOTERS=",".join(
                f"{n}@kafka{n}:{LISTENER_PORTS['CONTROLLER']}" for n in range(1, self.SIZE + 1)
            ),
            KAFKA_DEFAULT_REPLICATION_FACTOR=str(self.SIZE),
            KAFKA_MIN_INSYNC_REPLICAS="2",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
            # Only the test moves leaders.
            KAFKA_AUTO_LEADER_REBALANCE_ENABLE="false",
            # The default of 50 partitions, with three replicas each, takes longer to create.
            KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS="3",
            KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS="3",
            # The image has one replica by default.
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=str(self.SIZE),
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=str(self.SIZE),
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="2",
            KAFKA_HEAP_OPTS="-Xmx512m -Xms256m",
        )

    def _wait_until_whole(self) -> None:
        for attempt in Retrying(
            stop=stop_after_delay(CLUSTER_TIMEOUT_S),
            wait=wait_fixed(0.2),
            retry=retry_if_exception_type((KafkaException, TimeoutError)),
            reraise=True,
        ):
            with attempt:
                if not self._is_whole():
                    raise TimeoutError("the three brokers are not in sync")

    def _is_whole(self) -> bool:
        found = self._admin.list_topics(timeout=ADMIN_TIMEOUT_S)
        return len(found.brokers) == self.SIZE and all(
            len(partition.isrs) == len(partition.replicas)
            for topic in found.topics.values()
            for partition in topic.partitions.values()
        )
