"""A small simulation of the whole rule, and what its draws cost."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from verdict_runs import wrong_on

from pipeline.metrics import METRICS
from pipeline.verdict import bootstrap
from pipeline.verdict import statistics as st

ROOT = Path(__file__).parent.parent


def test_draws_cost_by_outcome_not_by_row(monkeypatch):
    """Ten times the rows, the same outcomes: as many random numbers."""
    truth = np.repeat(np.arange(77), 130)
    predicted = np.array([wrong_on(truth, (0, 800)), wrong_on(truth, (0, 1000))])
    few, many = st.outcomes(truth, predicted, 77), st.outcomes(np.tile(truth, 10), np.tile(predicted, 10), 77)
    assert len(few.rows) == len(many.rows)
    drawn: list[int] = []
    poisson = bootstrap.poisson

    def counted(*rates, **how):
        drawn[-1] += (found := poisson(*rates, **how)).size
        return found

    monkeypatch.setattr(bootstrap, "poisson", counted)
    for table in (few, many):
        drawn.append(0)
        own, apart = bootstrap.counts(table, [m for m in METRICS if METRICS[m].counts], 100, np.random.default_rng(0))
        assert (own.shape, apart.shape) == ((6, 2, 100), (6, 1, 100))
    assert drawn[0] == drawn[1]


@pytest.fixture(scope="module")
def simulation():
    path = ROOT / "benchmarks" / "verdict.py"
    spec = importlib.util.spec_from_file_location("benchmark_verdict", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_verdict"] = module
    spec.loader.exec_module(module)
    return module


def honest(records, repeats):
    """Falsely better at most 5 % + 2 SE; coverage 93 to 98.5 %, give or take what chance does in `repeats`."""
    error = 2 * np.sqrt(0.05 * 0.95 / repeats)
    for record in records:
        assert record["better"] + record["worse"] <= 0.05 + error, record
        assert record["coverage"] >= 0.93 - error, record
        assert 0.93 - error <= record["coverage_difference"] <= 0.985 + error, record


@pytest.mark.parametrize("rows", [100, 500])
def test_exchangeable_contenders_are_rarely_called_better(simulation, rows):
    honest(simulation.simulate(simulation.CASES[2], rows, 150, 200), 150)


def test_a_real_gap_is_found(simulation):
    (accuracy, f1) = simulation.simulate(simulation.POWER[1], 2000, 40, 200)
    assert accuracy["better"] > 0.9
    assert f1["better"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 500, 2000])
def test_every_case_is_honest(simulation, rows):
    for case in simulation.CASES:
        honest(simulation.simulate(case, rows, 1000, 500), 1000)
