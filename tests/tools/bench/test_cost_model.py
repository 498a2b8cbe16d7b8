"""The cost model, and the table that compares it with what was measured."""

import pytest

from bridge.tools.bench.cost_model import CostModel
from bridge.tools.bench.report import report
from bridge.tools.bench.results import Figure
from tests.support.bench import results

STAGES_US = {"websockets": 2.0, "record": 1.5, "kafka": 1.0, "redis": 0.5}
SIZES = {"memory_mib": 80.0, "kafka_bytes": 58.0, "redis_bytes": 374.0}


def stages(prefix: str = "", times: float = 1.0) -> list[Figure]:
    return [Figure(f"stage.{prefix}{name}", [times * us]) for name, us in STAGES_US.items()]


def cost(name: str, rate: float, cores: float) -> list[Figure]:
    figures = {"rate": rate, "cores": cores} | SIZES
    return [Figure(f"cost.{name}.{key}", [value]) for key, value in figures.items()]


def test_a_load_costs_the_fixed_part_and_its_stages() -> None:
    model = CostModel.of(results(*stages(), *cost("1000", 1_000, 0.255)))
    assert model
    assert model.fixed_cores == pytest.approx(0.25)
    assert model.cores("50000", 50_000) == pytest.approx(0.5)
    assert model.cores("market", 50_000) is None


def test_the_market_has_stages_of_its_own() -> None:
    figures = [*stages(), *stages("market_", 2.0), *cost("1000", 1_000, 0.255)]
    model = CostModel.of(results(*figures))
    assert model
    assert model.cores("market10", 50_000) == pytest.approx(0.75)


def test_the_report_compares_the_model_with_each_measured_load() -> None:
    figures = [*stages(), *cost("1000", 1_000, 0.255), *cost("50000", 50_000, 0.45)]
    text = report(results(*figures))
    assert "Cost model: 0.25 cores, and 5.0 µs of a core for each message." in text
    row = "| 50,000 | 0.45 | 0.50 | 0.90 x | 80 MiB | 58 B | 2.90 MB | 374 B | 18.70 MB |"
    assert f"| 3 symbols, 50,000 msg/s {row}" in text


def test_there_is_no_model_without_its_basis() -> None:
    assert CostModel.of(results(*stages())) is None
    assert CostModel.of(results(*stages()[1:], *cost("1000", 1_000, 0.255))) is None
    assert "Cost model" not in report(results(*stages()))
