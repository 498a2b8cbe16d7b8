"""The renderings that the tests of the chart share."""

import pytest

from tests.support.helm import CASES, Rendered, render


@pytest.fixture(scope="session")
def default() -> Rendered:
    """The chart without any values."""
    return render()


@pytest.fixture(scope="session")
def cases() -> dict[str, Rendered]:
    """The chart with each file of values in its ci/, by the file's name."""
    return {path.name.removesuffix("-values.yaml"): render(path) for path in CASES}
