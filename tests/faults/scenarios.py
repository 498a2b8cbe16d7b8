"""All scenarios. Each one breaks something under 5,000 trades a second, once or more often."""

from bridge.tools.simulator import (
    AnnounceShutdown,
    CloseWith,
    Cut,
    DropAtOpen,
    Fault,
    RefuseRequest,
    Reorder,
    Repeat,
    RestBehind,
    Skip,
    SlowHandshake,
    StallConnection,
    StallStream,
)
from tests.faults import fault_actions, group_actions
from tests.faults.profile import Size
from tests.faults.recovery import LASTING_S
from tests.faults.scenario import Scenario

# The second connection opens this long after the first one.
_SECOND_LINE_S = 6.0
# Until the bridge knows the usual interval of a stream, so that it can detect a stall.
_RHYTHM_S = 22.0
_TRADES = "*rade"  # trade and aggTrade: a missing quote cannot be detected
_GAP = frozenset({"gap"})
# A partition rests if its leader is missing while a broker starts.
_KAFKA_AWAY = frozenset({"kafka_unavailable", "kafka_slow", "kafka_partition_unavailable"})
_QUEUE_FULL = frozenset({("redis", "queue_full")})
_OUTBOX_FULL = frozenset({("kafka", "outbox_full")})
# What Kafka has not taken waits until the bridge knows that another one has published it.
_UNSENT_MIB = 500
_CUT_OFF = frozenset({"connection_down", "connection_stalled", "gap"})


def _cuts(size: Size, calm_s: float) -> tuple[Fault, ...]:
    begin_s = calm_s + _SECOND_LINE_S
    return (
        Cut(at_s=begin_s),
        Cut(every_s=5.0, at_s=begin_s, until_s=calm_s + size.seconds),
    )


def _cuts_without_rest(size: Size, calm_s: float) -> tuple[Fault, ...]:
    until_s = calm_s + size.seconds
    return (
        RefuseRequest(status=503, at_s=calm_s, until_s=until_s),
        Cut(at_s=calm_s),
        Cut(every_s=4.0, at_s=calm_s, until_s=until_s),
    )


def _shutdowns(size: Size, calm_s: float) -> tuple[Fault, ...]:
    return tuple(
        AnnounceShutdown(at_s=calm_s + 8.0 * number, lead_s=3.0) for number in range(size.times)
    )


def _silent_streams(size: Size, calm_s: float) -> tuple[Fault, ...]:
    """Stall trades for a short time, and quotes until the bridge notices."""
    until_s = calm_s + size.seconds
    brief = (
        StallStream(streams=_TRADES, at_s=calm_s, for_s=3.0),
        StallStream(streams=_TRADES, every_s=4.0, at_s=calm_s, until_s=until_s, for_s=3.0),
    )
    lasting = StallStream(streams="*@bookTicker", at_s=calm_s + _RHYTHM_S, for_s=LASTING_S)
    return (*brief, lasting) if size.seconds > _RHYTHM_S else brief


def _silent_connections(size: Size, calm_s: float) -> tuple[Fault, ...]:
    """Silence each new connection after a while too; one of them does not answer pings either."""
    return tuple(
        StallConnection(at_s=calm_s + _RHYTHM_S + 25.0 * number, for_s=LASTING_S, deaf=number == 1)
        for number in range(size.times)
    )


def _everything(size: Size, calm_s: float) -> tuple[Fault, ...]:
    until_s = calm_s + size.seconds
    return (
        Cut(at_s=calm_s),
        Cut(every_s=10.0, at_s=calm_s, until_s=until_s),
        CloseWith(every_s=20.0, at_s=calm_s, until_s=until_s, code=1008),
        AnnounceShutdown(every_s=20.0, at_s=calm_s, until_s=until_s, lead_s=0.5),
        StallConnection(every_s=20.0, at_s=calm_s, until_s=until_s, for_s=1.0, lost=False),
        Repeat(share=0.01),
        Reorder(share=0.01, streams=_TRADES),
        Skip(share=0.0001, streams=_TRADES),
        SlowHandshake(share=0.2, by_s=0.3),
        DropAtOpen(share=0.1, at_s=calm_s),
        RestBehind(by_ms=300),
        RefuseRequest(status=503, share=0.1),
    )


SCENARIOS = (
    Scenario(
        name="connection-cut",
        title="connection cut at random moments",
        full=Size(66),
        short=Size(12),
        plan=_cuts,
        fault_action=fault_actions.let_flow,
        shows="connection_down",
        expected=_GAP,
        interrupts=True,
    ),
    Scenario(
        name="two-connections-cut",
        title="the same with `redundancy: 2`, each cut as often",
        full=Size(66),
        short=None,
        plan=_cuts,
        fault_action=fault_actions.let_flow,
        shows="connection_down",
        expected=_GAP,
        settings={"binance": {"redundancy": 2}},
        interrupts=True,
    ),
    Scenario(
        name="one-of-two-connections",
        title="one of two connections cut, shut down or silent, in turn",
        full=Size(4),
        short=Size(4),
        fault_action=fault_actions.break_one_of_two_lines,
        shows="connection_down",
        settings={"binance": {"redundancy": 2}},
    ),
    Scenario(
        name="clock-wrong",
        title="our clock an hour behind, connection cut at random moments",
        full=Size(66),
        short=Size(10),
        plan=_cuts,
        fault_action=fault_actions.let_flow,
        shows="event_time_ahead",
        expected=_GAP | {"connection_down"},
        interrupts=True,
        clock_behind_s=3600,
    ),
    Scenario(
        name="ids-restarted",
        title="ids that start again at 1, then a cut, `kill -9` or SIGTERM",
        full=Size(0, times=18),
        short=Size(0, times=3),
        fault_action=fault_actions.restart_ids,
        shows="gap",
        expected=frozenset({"connection_down"}),
        interrupts=True,
    ),
    Scenario(
        name="times-wrong",
        title="single trades dated an hour ahead or too early, then the same",
        full=Size(0, times=18),
        short=Size(0, times=3),
        fault_action=fault_actions.misdate_trades,
        shows="event_time_ahead",
        expected=_GAP | {"connection_down"},
        interrupts=True,
    ),
    Scenario(
        name="rest-away",
        title="REST away, connection cut at random moments",
        full=Size(90),
        short=Size(20),
        plan=_cuts_without_rest,
        fault_action=fault_actions.let_flow,
        shows="connection_down",
        # What the exchange lists is asked for every minute too.
        expected=_GAP | {"symbols_unavailable"},
        settings={"repair": {"timeout_s": 5, "weight_share": 1.0}},
        # Thousands of trades that were held back are released at once.
        drops=_QUEUE_FULL,
        interrupts=True,
        max_age_s=15.0,
        repairs_late=True,
    ),
    Scenario(
        name="rotation",
        title="connection replaced because of its age",
        full=Size(60),
        short=Size(6),
        fault_action=fault_actions.let_flow,
        settings={"binance": {"connection_max_age_s": 8}},
    ),
    Scenario(
        name="server-shutdown",
        title="`serverShutdown`, then close",
        full=Size(45, times=5),
        short=Size(5, times=1),
        plan=_shutdowns,
        fault_action=fault_actions.let_flow,
    ),
    Scenario(
        name="silent-stream",
        title="single streams silent",
        full=Size(100),
        short=Size(6),
        plan=_silent_streams,
        fault_action=fault_actions.let_flow,
        expected=_GAP | {"streams_stalled"},
        interrupts=True,
    ),
    Scenario(
        name="silent-connection",
        title="connection open and silent",
        full=Size(95, times=3),
        short=None,
        plan=_silent_connections,
        fault_action=fault_actions.let_flow,
        shows="connection_stalled",
        expected=_GAP,
        interrupts=True,
    ),
    Scenario(
        name="everything",
        title="all faults of the exchange at once",
        full=Size(60),
        short=Size(10),
        plan=_everything,
        fault_action=fault_actions.let_flow,
        shows="connection_down",
        # One request in ten is refused. If that is the first one, the bridge does not learn that
        # this exchange allows more requests than Binance, and repairs wait for the next minute.
        expected=_GAP | {"symbols_not_checked", "symbols_unavailable"},
        interrupts=True,
        repairs_late=True,
    ),
    Scenario(
        name="kafka-paused",
        title="Kafka frozen for 60 s",
        full=Size(60),
        short=Size(5),
        fault_action=fault_actions.pause_kafka,
        expected=_KAFKA_AWAY,
        settings={"kafka": {"outbox_max_bytes": "1GiB"}},
        memory_mib=1500,
    ),
    Scenario(
        name="kafka-killed",
        title="Kafka killed and restarted",
        full=Size(0, times=4),
        short=Size(0, times=1),
        fault_action=fault_actions.kill_kafka,
        expected=_KAFKA_AWAY,
    ),
    Scenario(
        name="kafka-leader-moved",
        title="leaders moved in a cluster of three (2,000 trades/s)",
        full=Size(0, times=3),
        short=None,
        fault_action=fault_actions.move_leaders,
        expected=_KAFKA_AWAY,
        way="cluster",
        replicas=3,
        load=0.4,
    ),
    Scenario(
        name="kafka-leader-missing",
        title="partitions without a leader; all others go on (2,000 trades/s)",
        full=Size(20, times=3),
        short=None,
        fault_action=fault_actions.take_leaders_away,
        shows="kafka_partition_unavailable",
        expected=frozenset({"kafka_slow"}),
        way="cluster",
        load=0.4,
    ),
    Scenario(
        name="kafka-reset",
        title="connection to Kafka reset in the middle of a batch or an answer",
        full=Size(0.5, times=6),
        short=Size(0.5, times=2),
        fault_action=fault_actions.reset_connections,
        expected=_KAFKA_AWAY,
        way="proxy",
    ),
    Scenario(
        name="kafka-latency",
        title="200 ms between bridge and Kafka",
        full=Size(10, times=3),
        short=Size(3, times=1),
        fault_action=fault_actions.delay_kafka,
        way="proxy",
    ),
    Scenario(
        name="kafka-refuses",
        title="batches refused: too large, too few replicas",
        full=Size(3, times=6),
        short=Size(2, times=2),
        fault_action=fault_actions.refuse_batches,
        settings={"kafka": {"compression": "none"}},
        expected=_KAFKA_AWAY,
        shows="kafka_batch_too_large",
    ),
    Scenario(
        name="disk-full",
        title="Kafka frozen until memory and disk are full",
        full=Size(3),
        short=Size(3),
        fault_action=fault_actions.fill_disk,
        shows="spill_full",
        expected=_KAFKA_AWAY | {"kafka_gap", "spill_started", "spill_ended"},
        settings={"kafka": {"outbox_max_bytes": "8MiB"}},
        drops=_OUTBOX_FULL,
        disk_mib=28,
    ),
    Scenario(
        name="redis-paused",
        title="Redis frozen",
        full=Size(5, times=3),
        short=Size(3, times=1),
        fault_action=fault_actions.pause_redis,
        shows="redis_unavailable",
        drops=_QUEUE_FULL,
        recovers_in="redis",
    ),
    Scenario(
        name="redis-killed",
        title="Redis killed and restarted empty",
        full=Size(0, times=3),
        short=Size(0, times=1),
        fault_action=fault_actions.kill_redis,
        shows="redis_unavailable",
        drops=_QUEUE_FULL,
        recovers_in="redis",
    ),
    Scenario(
        name="redis-emptied",
        title="`FLUSHALL`",
        full=Size(0, times=5),
        short=Size(0, times=1),
        fault_action=fault_actions.empty_redis,
        recovers_in="redis",
    ),
    Scenario(
        name="redis-full",
        title="Redis out of memory",
        full=Size(5, times=3),
        short=Size(2, times=1),
        fault_action=fault_actions.fill_redis,
        shows="redis_keeps_no_values",
        drops=_QUEUE_FULL,
        may_tear=True,
        recovers_in="redis",
    ),
    Scenario(
        name="redis-scripts-gone",
        title="`SCRIPT FLUSH`",
        full=Size(0, times=5),
        short=Size(0, times=1),
        fault_action=fault_actions.forget_scripts,
        recovers_in="redis",
    ),
    Scenario(
        name="bridge-killed",
        title="`kill -9` of the bridge at random moments",
        full=Size(0, times=20),
        short=Size(0, times=3),
        fault_action=fault_actions.kill_bridge,
        expected=_GAP,
        interrupts=True,
    ),
    Scenario(
        name="bridge-stopped",
        title="SIGTERM under load",
        full=Size(0, times=5),
        short=Size(0, times=1),
        fault_action=fault_actions.stop_bridge,
        expected=_GAP,
        interrupts=True,
    ),
    Scenario(
        name="second-bridge",
        title="a second bridge started under load, the first one running or frozen",
        full=Size(3, times=12),
        short=Size(1, times=2),
        fault_action=fault_actions.start_second_bridge,
        shows="failed",
        expected=_GAP,
        interrupts=True,
    ),
    Scenario(
        name="owner-killed",
        title="a standby, and `kill -9` of the owner",
        full=Size(0, times=20),
        short=Size(0, times=2),
        fault_action=group_actions.kill_owner,
        shows="taking_over",
        bridges=2,
    ),
    Scenario(
        name="owner-frozen",
        title="the owner frozen, in turn for 5 s and past its session",
        full=Size(5, times=4),
        short=Size(4),
        fault_action=group_actions.freeze_owner,
        shows="taken_over",
        # It first reads what was sent meanwhile, and then hears that it is not the owner any more.
        expected=_KAFKA_AWAY | _CUT_OFF,
        drops=_QUEUE_FULL | _OUTBOX_FULL,
        memory_mib=1000,
        bridges=2,
    ),
    Scenario(
        name="owner-cut-from-kafka",
        title="the owner cut off from Kafka",
        full=Size(15, times=4),
        short=None,
        fault_action=group_actions.cut_owner_from_kafka,
        shows="taken_over",
        expected=_KAFKA_AWAY | _CUT_OFF,
        way="proxy",
        bridges=2,
        memory_mib=_UNSENT_MIB,
    ),
    Scenario(
        name="owner-cut-from-exchange",
        title="the owner cut off from the exchange",
        full=Size(20, times=4),
        short=None,
        fault_action=group_actions.cut_owner_from_exchange,
        shows="taken_over",
        expected=_CUT_OFF,
        way="proxy",
        bridges=2,
    ),
    Scenario(
        name="owner-cut-off",
        title="the owner cut off from both",
        full=Size(15, times=4),
        short=Size(5),
        fault_action=group_actions.cut_owner_off,
        shows="taken_over",
        expected=_KAFKA_AWAY | _CUT_OFF,
        way="proxy",
        bridges=2,
        memory_mib=_UNSENT_MIB,
    ),
    Scenario(
        name="both-killed",
        title="`kill -9` of owner and standby at once",
        full=Size(0, times=5),
        short=None,
        fault_action=group_actions.kill_both,
        shows="taking_over",
        expected=_GAP,
        interrupts=True,
        bridges=2,
    ),
    Scenario(
        name="clocks-apart",
        title="`kill -9` of the owner, and clocks 2 s apart",
        full=Size(0, times=6),
        short=None,
        fault_action=group_actions.kill_owner,
        shows="clocks_apart",
        bridges=2,
        clock_ahead_s=2.0,
    ),
    Scenario(
        name="rolling-restart",
        title="three bridges with three shards restarted in turn (2,000 trades/s)",
        full=Size(0, times=10),
        short=None,
        fault_action=group_actions.restart_in_turn,
        shows="taking_over",
        bridges=3,
        shards=3,
        load=0.4,
    ),
    Scenario(
        name="bridge-added",
        title="a third bridge added and removed (2,000 trades/s)",
        full=Size(0, times=5),
        short=None,
        fault_action=group_actions.add_and_remove_bridge,
        shows="taking_over",
        bridges=2,
        shards=3,
        load=0.4,
    ),
    Scenario(
        name="coordinator-killed",
        title="the broker that coordinates the group killed, then the owner (2,000 trades/s)",
        full=Size(0, times=3),
        short=None,
        fault_action=group_actions.stop_coordinator,
        shows="taking_over",
        expected=_KAFKA_AWAY,
        way="cluster",
        replicas=3,
        load=0.4,
        bridges=2,
    ),
)
