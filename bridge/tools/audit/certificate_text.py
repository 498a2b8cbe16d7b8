"""A certificate for people."""

from collections.abc import Iterator

from bridge.monitoring.tables import report_console
from bridge.monitoring.words import printable
from bridge.tools.audit.certificate import Certificate, IdRange, IdRanges

# Ranges and differences of each sort.
SHOWN_MAX = 10


def print_certificate(certificate: Certificate) -> None:
    """Print what was compared, what differs, and the verdict."""
    console = report_console(markup=False)
    for line in _lines(certificate):
        console.print(printable(line))


def _lines(found: Certificate) -> Iterator[str]:
    checked = "its checksum is right" if found.checksum_verified else "NO CHECKSUM FILE"
    ids = f"ids {found.first_id} to {found.last_id}"
    yield f"{found.archive}: {found.rows:,} rows, {ids}, {checked}"
    yield f"  sha256 {found.sha256}"
    yield f"{found.topic}: {found.equal:,} of {found.rows:,} are equal in every field"
    yield from _ranges("missing in the topic, not announced", found.missing)
    yield from _ranges("missing in the topic, announced by gap events", found.announced)
    yield from _ranges("in the topic, and not in the archive", found.not_in_archive)
    if found.repeated:
        yield f"  {found.repeated:,} repeated in the topic"
    if found.different:
        yield f"  {found.different:,} different:"
    for each in found.differences[:SHOWN_MAX]:
        fields = f"{' '.join(each.topic)}, archive {' '.join(each.archive)}"
        yield f"    {each.id} at offset {each.offset}: {fields}"
    if found.verdict == "different":
        yield f"NOT EQUAL to the archive of {found.day}"
        return
    limit = " except what gap events announced" if found.announced.ids else ""
    yield f"EQUAL to the archive of {found.day} in every id and every field{limit}"


def _ranges(what: str, ranges: IdRanges) -> Iterator[str]:
    if ranges.ids:
        more = " …" if len(ranges.listed) > SHOWN_MAX else ""
        named = ", ".join(map(_range, ranges.listed[:SHOWN_MAX]))
        yield f"  {ranges.ids:,} {what}: {named}{more}"


def _range(ids: IdRange) -> str:
    text = f"{ids.first_id}" if ids.ids == 1 else f"{ids.first_id}-{ids.last_id}"
    return f"{text} ({ids.announced})" if ids.announced else text
