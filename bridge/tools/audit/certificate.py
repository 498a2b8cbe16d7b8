"""The certificate of a comparison with an archive: plain data, the same for people and for JSON."""

from typing import Literal

import msgspec

from bridge.tools.audit.archive import Fields

LISTED_MAX = 100


class Difference(msgspec.Struct):
    """An event whose fields differ; its record is at `offset`."""

    id: int
    offset: int
    archive: Fields
    topic: Fields


class IdRange(msgspec.Struct):
    """Ids, both ends included. `announced` is the state of the gap event about them, if any."""

    first_id: int
    last_id: int
    announced: str | None = None

    @property
    def ids(self) -> int:
        return self.last_id - self.first_id + 1


class IdRanges(msgspec.Struct):
    """Ranges of ids. All are counted, the lowest LISTED_MAX listed."""

    ids: int = 0
    listed: list[IdRange] = msgspec.field(default_factory=list)

    def add(self, found: IdRange) -> None:
        self.ids += found.ids
        if len(self.listed) < LISTED_MAX:
            self.listed.append(found)


class Certificate(msgspec.Struct, kw_only=True):
    """What a topic and the exchange's archive of a day say about the same events.

    `equal` counts the ids at which both agree in every field. `different` lists at most LISTED_MAX.
    `missing` are ids of the archive that the topic lacks and no gap event announced, `announced`
    those that one did. `not_in_archive` are ids between its first and last one that the archive
    lacks and the topic has. `repeated` counts records whose id came before. The verdict is `equal`
    if nothing is different, missing or repeated.
    """

    version: str
    verdict: Literal["equal", "different"]
    archive: str
    sha256: str
    checksum_verified: bool
    topic: str
    message_type: str
    symbol: str
    day: str
    first_id: int
    last_id: int
    rows: int
    equal: int
    different: int
    repeated: int
    missing: IdRanges
    announced: IdRanges
    not_in_archive: IdRanges
    differences: list[Difference]
