"""Builds the site of the documents with Sphinx: `make docs`.

The source is the whole repository, so that links work in the files as they do on the site. The
lists of docs/README.md are the contents of the site.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]

project = "Tickbridge"
copyright = "the authors of Tickbridge"  # noqa: A001 - Sphinx calls it so
extensions = ["myst_parser"]
root_doc = "docs/README"
include_patterns = ["*.md", "docs/**.md", "charts/**.md", "examples/**.md"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Tickbridge"
html_copy_source = False
html_show_sphinx = False
# Lexers do not know our placeholders.
suppress_warnings = ["misc.highlighting_failure"]

_LINK = re.compile(r"^- .*?\]\(([\w./-]+)\.md\)", re.MULTILINE)


def add_contents(_: Sphinx, name: str, text: list[str]) -> None:
    """Make the contents of the site of the lists of the first page."""
    if name == root_doc:
        text[0] += "".join(_contents(text[0]))


def _contents(page: str) -> Iterator[str]:
    for section in page.split("\n## ")[1:]:
        title, _, rest = section.partition("\n")
        files = ((ROOT / "docs" / name).resolve() for name in _LINK.findall(rest))
        pages = [f"/{file.relative_to(ROOT)}" for file in files]
        yield "\n".join(("\n```{toctree}", ":hidden:", f":caption: {title}", *pages, "```\n"))


def lead_to_first_page(app: Sphinx, error: Exception | None) -> None:
    """Write the page `/`."""
    if error is None and app.builder.format == "html":
        target = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">'
        (Path(app.outdir) / "index.html").write_text(target)


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
    app.connect("build-finished", lead_to_first_page)
