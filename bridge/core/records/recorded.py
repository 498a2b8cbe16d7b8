"""Reads from the value of a record what its position needs."""

import msgspec

from bridge.core.model.unreadable import decode_ours
from bridge.core.records.record import NO_IDENTITY
from bridge.core.sequencing.backfilled import closed_to
from bridge.core.sequencing.position import Position
from bridge.core.sequencing.rules import is_ahead, time_of
from bridge.core.sequencing.sequencers import TIMED

# The ids of other events do not show what is missing before them.
_ID_FIELDS = {"trade": "trade_id", "agg_trade": "agg_trade_id", "block_trade": "trade_id"}
_CANDLE = "candle"
# The records of these types do not have in `Record.identity` what their positions need.
READ_FROM_VALUE = frozenset({_CANDLE, "block_trade"})


class _Row(msgspec.Struct, gc=False):
    symbol: str
    received: int
    timestamp: int | None = None
    trade_id: int = NO_IDENTITY
    agg_trade_id: int = NO_IDENTITY
    update_id: int = NO_IDENTITY
    last_update_id: int = NO_IDENTITY
    interval: str = ""
    open_time: int = 0
    close_time: int = 0
    closed: bool = False


_decode = msgspec.json.Decoder(_Row).decode


def position_of(
    message_type: str, value: bytes | None, partition: int, offset: int
) -> Position | None:
    """Return the position of a record; None if it is not a record of ours."""
    row = decode_ours(_decode, value)
    if row is None:
        return None
    interval, last_id = "", NO_IDENTITY
    if message_type == _CANDLE:
        interval = row.interval
        last_id = closed_to(row.open_time, row.close_time, closed=row.closed)
    elif message_type in _ID_FIELDS:
        last_id = getattr(row, _ID_FIELDS[message_type])
    position = Position(
        message_type, row.symbol, last_id, time_of(row), partition, offset, interval
    )
    if message_type in TIMED and is_ahead(row):
        position.ahead = time_of(row)
    elif message_type in TIMED:
        position.mark = time_of(row)
    else:
        position.mark = max(row.update_id, row.last_update_id)
    return position
