"""Rendered charts that the tests share."""

import pytest

from tests.support.helm import CASES, Rendered, render


@pytest.fixture(scope="session")
def default() -> Rendered:
    """Render the chart without any values."""
    return render()


@pytest.fixture(scope="session")
def cases() -> dict[str, Rendered]:
    """Render the chart with each values file in its ci/, by the name of the file."""
    return {path.name.removesuffix("-values.yaml"): render(path) for path in CASES}
