"""Recorded frames and answers as further inputs, where the captures are there."""

import gzip
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data"
# Of each file, and of each page of an answer.
MOST_LINES, MOST_ROWS = 100, 3


def recorded() -> dict[str, list[bytes]]:
    """Return recorded inputs by target; none without the captures."""
    folder = Path(os.environ.get("TICKBRIDGE_CAPTURES", FOLDER))
    if not folder.is_dir():
        return {}
    return {"frames": [*_frames(folder)], "answers": [*_answers(folder)]}


def _frames(folder: Path) -> Iterator[bytes]:
    for line in (folder / "frames" / "frames.jsonl").read_text().splitlines():
        yield json.loads(line)["frame"].encode()
    for path in sorted((folder / "spot").glob("*.gz")):
        with gzip.open(path, "rt") as lines:
            for text in islice(lines, MOST_LINES):
                yield text.rstrip().partition(" ")[2].encode()


def _answers(folder: Path) -> Iterator[bytes]:
    with gzip.open(folder / "rest" / "answers.json.gz", "rb") as file:
        answers = json.load(file)
    for answer in (each for of_path in answers.values() for each in of_path):
        data = answer["data"]
        yield json.dumps(data[:MOST_ROWS] if isinstance(data, list) else data).encode()
