"""Numbers over seeds, against known answers and against SciPy."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import trim_mean

from inspo_core.errors import InspoError
from inspo_core.rng import numpy_stream
from inspo_core.statistics import bootstrap, estimate, iqm, mean, std


def test_known_answers():
    values = np.array([10.0, 1.0, 2.0, 3.0, -50.0])
    assert mean(values) == pytest.approx(-6.8)
    assert std(values) == pytest.approx(np.sqrt(((values + 6.8) ** 2).sum() / 4))
    assert iqm(values) == 2.0  # the middle three


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 10, 33])
def test_iqm_is_the_trimmed_mean_of_rliable(size):
    values = numpy_stream(0, "test").normal(size=(3, size))
    np.testing.assert_allclose(iqm(values), trim_mean(values, 0.25, axis=1), rtol=1e-12)


def test_interval_agrees_with_scipy():
    values = numpy_stream(1, "test").exponential(size=12)
    ours = estimate([values], 0.9, 20_000)
    reference = scipy_bootstrap(
        (values,), lambda x, axis: trim_mean(x, 0.25, axis=axis), confidence_level=0.9, n_resamples=20_000, method="percentile", rng=5
    ).confidence_interval
    assert ours.low == pytest.approx(reference.low, abs=0.02)
    assert ours.high == pytest.approx(reference.high, abs=0.02)


def test_two_values_have_the_interval_that_one_can_count():
    """Resamples of {0, 1}: means 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
    wide, narrow = estimate([np.array([0.0, 1.0])], 0.6, 4000), estimate([np.array([0.0, 1.0])], 0.4, 4000)
    assert (wide.low, wide.high) == (0.0, 1.0)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_strata_are_resampled_apart():
    """Two tasks without spread over seeds leave no uncertainty, however far apart; pooled carelessly they would."""
    tasks = [np.full(5, 0.0), np.full(5, 10.0)]
    together = estimate(tasks, 0.95, 1000)
    careless = estimate([np.concatenate(tasks)], 0.95, 1000)
    assert (together.low, together.iqm, together.high) == (5.0, 5.0, 5.0)
    assert careless.low < 4 and careless.high > 6
    assert together.std is None and together.seeds == 5


def test_same_values_same_bytes_whatever_the_chunks(monkeypatch):
    values = numpy_stream(2, "test").normal(size=5)
    assert estimate([values], 0.95, 1000) == estimate([values.copy()], 0.95, 1000)
    whole = bootstrap([values], iqm, 1000, numpy_stream(0, "bootstrap"))
    monkeypatch.setattr("inspo_core.statistics.CHUNK", 35)
    assert (bootstrap([values], iqm, 1000, numpy_stream(0, "bootstrap")) == whole).all()


@pytest.mark.parametrize(("seeds", "lowest", "highest"), [(3, 0.70, 0.80), (5, 0.88, 0.94), (10, 0.91, 0.96), (20, 0.92, 0.97)])
def test_coverage(seeds, lowest, highest):
    """How often the 95 % interval holds the true value: docs/statistics.md quotes these."""
    rng = numpy_stream(3, "coverage")
    repeats, hits = 1000, 0
    for values in rng.normal(size=(repeats, seeds)):
        found = estimate([values], 0.95, 1000)
        hits += found.low <= 0 <= found.high
    assert lowest < hits / repeats < highest


def test_one_seed_has_no_spread_and_no_interval():
    found = estimate([np.array([3.5])], 0.95, 100)
    assert (found.mean, found.iqm, found.std, found.low, found.high, found.seeds) == (3.5, 3.5, None, None, None, 1)


@pytest.mark.parametrize("strata", [[], [np.array([])], [np.ones(5), np.ones(4)], [np.array([1.0, np.nan])]])
def test_unusable_values_are_refused(strata):
    with pytest.raises(InspoError):
        estimate(strata, 0.95, 100)
