"""Numbers over seeds, against known answers and against SciPy."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import mannwhitneyu, trim_mean

from inspo_core.errors import InspoError
from inspo_core.rng import numpy_stream
from inspo_core.statistics import Improvement, bootstrap, estimate, improvement, iqm, mean, profile, std


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


# Probability of improvement


def test_improvement_counts_pairs_and_ties_half():
    found = improvement([np.array([1.0, 2.0, 3.0])], [np.array([0.0, 2.0])], 0.95, 2000)
    assert found.probability == (1 + 0.5 + 1 + 0 + 1 + 1) / 6
    assert 0 <= found.low < found.probability < found.high <= 1
    summed_otherwise = improvement([np.full(5, -1.2367103132467703)], [np.full(5, -1.23671031324677)], 0.95, 100)
    assert (summed_otherwise.probability, summed_otherwise.low) == (0.5, 0.5)
    tasks = improvement([np.array([1.0, 1.0]), np.array([0.0, 0.0])], [np.array([0.0, 0.0]), np.array([0.0, 0.0])], 0.95, 100)
    assert (tasks.probability, tasks.low, tasks.high) == (0.75, 0.75, 0.75)  # sure on one task, equal on the other


def test_improvement_agrees_with_mann_whitney_and_with_itself_turned_round():
    rng = numpy_stream(4, "test")
    x, y = rng.normal(0.4, size=9), rng.normal(size=7)
    found, turned = improvement([x], [y], 0.9, 4000), improvement([y], [x], 0.9, 4000)
    assert found.probability == pytest.approx(mannwhitneyu(x, y).statistic / 63)
    assert turned.probability == pytest.approx(1 - found.probability)
    assert turned.low == pytest.approx(1 - found.high, abs=0.03) and turned.high == pytest.approx(1 - found.low, abs=0.03)


def test_improvement_resamples_both_sides():
    """Of {0, 1} against {0.5}, {0.5}: P = 0, 1/2, 1 with probability 1/4, 1/2, 1/4, and the same the other way round."""
    spread, fixed = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    for found in (improvement([spread], [fixed], 0.6, 4000), improvement([fixed], [spread], 0.6, 4000)):
        assert (found.probability, found.low, found.high) == (0.5, 0.0, 1.0)


def test_improvement_with_one_run_has_no_interval_and_unusable_values_are_refused():
    assert improvement([np.ones(1)], [np.zeros(1)], 0.95, 10) == Improvement(1.0, None, None)
    for xs, ys in [([], []), ([np.ones(2)], []), ([np.ones(2)], [np.array([])]), ([np.ones(2)], [np.array([np.nan, 1.0])])]:
        with pytest.raises(InspoError):
            improvement(xs, ys, 0.95, 10)


# Performance profile


def test_a_profile_is_the_share_of_runs_above_a_threshold():
    tasks = [np.array([0.0, 0.5, 1.0, 1.0]), np.array([0.25, 0.25, 0.25, 0.75])]
    share, low, high = profile(tasks, np.array([-0.1, 0.25, 0.5, 1.0]), 0.95, 2000)
    assert share.tolist() == [1.0, 0.5, 0.375, 0.0]  # above, not at
    assert (low[0], high[0], low[3], high[3]) == (1.0, 1.0, 0.0, 0.0)
    assert low[1] < 0.5 < high[1]
    careless = profile([np.concatenate([np.zeros(4), np.ones(4)])], np.array([0.5]), 0.95, 1000)
    apart = profile([np.zeros(4), np.ones(4)], np.array([0.5]), 0.95, 1000)
    assert apart[:, 0].tolist() == [0.5, 0.5, 0.5] and careless[1, 0] < 0.5 < careless[2, 0]


def test_the_interval_of_a_profile_is_that_of_a_share():
    """Inside one task the number of runs above is binomial: 5 of 10 gives an interval of about +- 1.96 sqrt(0.25 / 10)."""
    _, low, high = profile([np.repeat([0.0, 1.0], 5)], np.array([0.5]), 0.95, 20_000)
    assert low[0] == pytest.approx(0.2, abs=0.101) and high[0] == pytest.approx(0.8, abs=0.101)
    assert np.isnan(profile([np.zeros(1)], np.array([0.5]), 0.95, 10)[1:]).all()
