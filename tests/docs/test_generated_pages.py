"""The generated pages match the code."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[str, Callable[[], str]] = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_made_from_the_code_is_what_the_code_says(page: str) -> None:
    assert (DOCS / "reference" / page).read_text() == PAGES[page](), "run `make docs`"
