"""The pages that people read, and the code blocks in them."""

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
# Not the changelog: it tells of things that are gone.
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "charts/*/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)


@dataclass(frozen=True)
class Block:
    """A fenced code block, and the line of the page in which it begins."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page, in their order. Pictures and outputs are `text`."""
    tokens = MarkdownIt().parse((ROOT / page).read_text())
    return [
        Block(page, token.map[0] + 1, (token.info.split() or ["text"])[0], token.content)
        for token in tokens
        if token.type == "fence" and token.map
    ]
