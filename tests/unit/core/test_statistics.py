"""Statistics against numbers worked by hand, textbook values, naive loops and invariances."""

import itertools
import math
import random

import numpy as np
import pytest

from prerl.core.statistics import (
    avg_at_k,
    bootstrap_mean,
    bootstrap_ratio,
    cluster_bootstrap_mean,
    log_count_ratio,
    median_interval,
    paired_bootstrap_difference,
    pass_at_k,
    regularised_incomplete_beta,
    resample_counts,
    t_interval,
    t_quantile,
)


def test_avg_at_k_by_hand():
    assert avg_at_k(np.array([4, 2, 5]), np.array([1, 2, 0])).tolist() == [0.25, 1.0, 0.0]


def test_pass_at_k_by_hand():
    # n = 4, c = 1: 1 − C(3, k) / C(4, k) = 1/4, 1 − 3/6, 1 − 1/4, 1
    assert [pass_at_k(np.array([4]), np.array([1]), k)[0] for k in (1, 2, 3, 4)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0]
    )
    # n = 5, c = 2, k = 2: 1 − C(3, 2) / C(5, 2) = 1 − 3/10
    assert pass_at_k(np.array([5]), np.array([2]), 2)[0] == pytest.approx(0.7)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer():
    for n, c in [(1, 0), (4, 0), (4, 4), (6, 2), (7, 3)]:
        for k in range(1, n + 1):
            subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
            expected = sum(map(any, subsets)) / len(subsets)
            assert pass_at_k(np.array([n]), np.array([c]), k)[0] == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_against_exact_binomials_at_large_n():
    n = np.full(257, 256)
    c = np.arange(257)
    for k in (1, 2, 64, 255, 256):
        exact = [1 - math.comb(256 - int(x), k) / math.comb(256, k) for x in c]
        np.testing.assert_allclose(pass_at_k(n, c, k), exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pass_at_k(n, c, 1), avg_at_k(n, c), atol=1e-12)


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_beyond_n_is_refused(k):
    with pytest.raises(ValueError, match="sample more"):
        pass_at_k(np.array([8, 4]), np.array([1, 1]), k)


@pytest.mark.parametrize(("n", "c"), [([0], [0]), ([4], [5]), ([4], [-1]), ([], []), ([4, 4], [1])])
def test_impossible_counts_are_refused(n, c):
    with pytest.raises(ValueError):
        avg_at_k(np.array(n), np.array(c))


def naive_bootstrap(values, strata, counts, confidence):
    """Means by explicit repetition of each drawn question."""
    draws = []
    for row in counts:
        means = []
        for name in dict.fromkeys(strata):
            drawn = [v for v, s, times in zip(values, strata, row, strict=True) if s == name for _ in range(times)]
            means.append(sum(drawn) / len(drawn))
        draws.append(sum(means) / len(means))
    return np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])


def test_bootstrap_mean_against_a_naive_loop():
    values = np.random.default_rng(0).random(9)
    strata = ["a", "b", "a", "a", "b", "c", "c", "c", "c"]
    counts = resample_counts(strata, 50, seed=3)
    interval = bootstrap_mean(values, strata, 50, 0.9, seed=3)
    groups = [[v for v, s in zip(values, strata, strict=True) if s == name] for name in "abc"]
    assert interval.value == pytest.approx(np.mean([np.mean(group) for group in groups]))  # unweighted over benchmarks
    np.testing.assert_allclose([interval.low, interval.high], naive_bootstrap(values, strata, counts, 0.9))


def test_resamples_stay_within_strata_and_keep_their_size():
    strata = ["a"] * 3 + ["b"] * 5
    counts = resample_counts(strata, 200, seed=1)
    assert (counts[:, :3].sum(axis=1) == 3).all() and (counts[:, 3:].sum(axis=1) == 5).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(8), abs=0.25)
    np.testing.assert_array_equal(
        counts[:, 3:], resample_counts(["b"] * 5, 200, seed=1)
    )  # another benchmark is no matter
    assert (counts != resample_counts(strata, 200, seed=2)).any()


def test_bootstrap_spread_is_the_standard_error():
    """Of a mean of Q shares: sd / √Q; the interval is ± 1.96 of it for many questions."""
    values = np.random.default_rng(1).random(400)
    interval = bootstrap_mean(values, ["a"] * 400, 4000, 0.95, seed=0)
    half = 1.96 * values.std() / 20
    assert interval.high - interval.value == pytest.approx(half, rel=0.1)
    assert interval.value - interval.low == pytest.approx(half, rel=0.1)


def test_many_metrics_at_once_equal_one_at_a_time():
    values = np.random.default_rng(2).random((12, 3))
    strata = ["a"] * 5 + ["b"] * 7
    together = bootstrap_mean(values, strata, 100, 0.95, seed=0)
    for m in range(3):
        np.testing.assert_allclose(
            [bound[m] for bound in together], list(bootstrap_mean(values[:, m], strata, 100, 0.95, seed=0))
        )


def test_ratio_is_a_ratio_of_sums():
    # (1 + 6) / (10 + 20), not the mean of 0.1 and 0.3
    counts = resample_counts(["a", "a"], 500, seed=0)
    interval = bootstrap_ratio(np.array([1, 6]), np.array([10, 20]), ["a", "a"], counts, 0.95)
    assert interval.value == pytest.approx(7 / 30)
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.3))


def test_a_single_question_has_no_interval():
    interval = bootstrap_mean(np.array([0.5, 0.1, 0.2]), ["a", "b", "b"], 100, 0.95, seed=0)
    assert interval.value == pytest.approx((0.5 + 0.15) / 2)
    assert math.isnan(interval.low) and math.isnan(interval.high)


def test_missing_values_and_mismatches_are_refused():
    with pytest.raises(ValueError, match="without answers"):
        bootstrap_mean(np.array([0.5, np.nan]), ["a", "a"], 10, 0.95, seed=0)
    with pytest.raises(ValueError, match="without answers"):
        bootstrap_ratio(np.ones(2), np.array([1.0, 0.0]), ["a", "a"], resample_counts(["a", "a"], 10, 0), 0.95)
    with pytest.raises(ValueError, match="align"):
        bootstrap_mean(np.ones(3), ["a", "a"], 10, 0.95, seed=0)
    with pytest.raises(ValueError, match="same questions"):
        paired_bootstrap_difference(np.ones(3), np.ones(2), ["a"] * 3, 10, 0.95, seed=0)
    with pytest.raises(ValueError, match="0.95"):
        bootstrap_mean(np.ones(3), ["a"] * 3, 10, 95, seed=0)


def test_paired_difference_removes_what_the_questions_share():
    """Two methods whose questions differ by exactly 0.1 have a difference without spread; unpaired it has one."""
    hard = np.random.default_rng(4).random(50) * 0.8
    paired = paired_bootstrap_difference(hard + 0.1, hard, ["a"] * 50, 500, 0.95, seed=0)
    assert list(paired) == pytest.approx([0.1, 0.1, 0.1])
    assert np.ptp(bootstrap_mean(hard, ["a"] * 50, 500, 0.95, seed=0)[1:]) > 0.05
    swapped = paired_bootstrap_difference(hard, hard + 0.1, ["a"] * 50, 500, 0.95, seed=0)
    assert list(swapped) == pytest.approx([-0.1, -0.1, -0.1])


def test_cluster_bootstrap_resamples_questions_not_rows():
    """30 questions whose 20 answers agree: the rows repeat each question, so the interval is that of 30 values."""
    by_question = (np.arange(30) % 3 == 0).astype(float)
    values, clusters = np.repeat(by_question, 20), np.repeat([f"q{i:02d}" for i in range(30)], 20)
    interval = cluster_bootstrap_mean(values, clusters, 2000, 0.95, seed=0)
    questions = bootstrap_mean(by_question, [""] * 30, 2000, 0.95, seed=0)
    assert list(interval) == pytest.approx(list(questions))
    rows = bootstrap_mean(values, [""] * 600, 2000, 0.95, seed=0)
    assert interval.high - interval.low > 3 * (rows.high - rows.low)  # rows of one question are not independent


def test_cluster_bootstrap_of_unequal_clusters_and_permutations():
    values, clusters = np.array([1.0, 2, 3, 10]), np.array(["a", "a", "a", "b"])
    interval = cluster_bootstrap_mean(values, clusters, 200, 0.99, seed=0)
    assert interval.value == pytest.approx(4.0)  # mean of the rows
    assert (interval.low, interval.high) == pytest.approx((2.0, 10.0))
    order = [3, 1, 0, 2]
    assert list(cluster_bootstrap_mean(values[order], clusters[order], 200, 0.99, seed=0)) == pytest.approx(
        list(interval)
    )
    columns = np.stack([values, -values], axis=1)
    assert cluster_bootstrap_mean(columns, clusters, 200, 0.99, seed=0).value.tolist() == pytest.approx([4.0, -4.0])


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [  # printed tables of Student's t
        (0.975, 1, 12.706205),
        (0.975, 2, 4.302653),
        (0.975, 4, 2.776445),
        (0.975, 9, 2.262157),
        (0.975, 30, 2.042272),
        (0.95, 5, 2.015048),
        (0.995, 10, 3.169273),
        (0.9995, 3, 12.923979),
        (0.75, 1, 1.0),
        (0.5, 7, 0.0),
        (0.025, 4, -2.776445),
        (0.975, 1_000_000, 1.959966),
    ],
)
def test_t_quantile(probability, freedom, quantile):
    assert t_quantile(probability, freedom) == pytest.approx(quantile, abs=2e-6)


def test_t_quantile_against_closed_forms():
    for p in (0.6, 0.9, 0.99, 0.999):
        assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-10)
        a = 4 * p * (1 - p)
        assert t_quantile(p, 2) == pytest.approx(2 * (p - 0.5) * math.sqrt(2 / a), rel=1e-10)


def test_incomplete_beta_against_closed_forms():
    for x in (0.0, 0.01, 0.3, 0.7, 0.99, 1.0):
        assert regularised_incomplete_beta(1, 1, x) == pytest.approx(x, abs=1e-14)
        assert regularised_incomplete_beta(3, 1, x) == pytest.approx(x**3, abs=1e-14)
        assert regularised_incomplete_beta(2, 2, x) == pytest.approx(3 * x**2 - 2 * x**3, abs=1e-14)
        assert regularised_incomplete_beta(0.5, 0.5, x) == pytest.approx(
            2 / math.pi * math.asin(math.sqrt(x)), abs=1e-12
        )


def test_t_interval_by_hand():
    # mean 3, sd √2.5, n 5: half width 2.776445 · √2.5 / √5 = 1.963243
    interval = t_interval([1, 2, 3, 4, 5], 0.95)
    assert list(interval) == pytest.approx([3.0, 3 - 1.963243, 3 + 1.963243], abs=1e-6)
    assert list(t_interval([5, 3, 1, 2, 4], 0.95)) == pytest.approx(list(interval))
    assert list(t_interval([2.0, 2.0], 0.95)) == [2.0, 2.0, 2.0]


def test_t_interval_covers_at_its_nominal_rate():
    generator = np.random.default_rng(5)
    covered = [i.low <= 0 <= i.high for i in (t_interval(generator.normal(size=5), 0.95) for _ in range(2000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_t_interval_of_too_few_seeds_has_no_bounds():
    one, none = t_interval([0.3], 0.95), t_interval([], 0.95)
    assert one.value == 0.3 and math.isnan(one.low) and math.isnan(one.high)
    assert all(math.isnan(x) for x in none)
    with pytest.raises(ValueError, match="missing"):
        t_interval([0.1, math.nan], 0.95)


def test_log_count_ratio():
    assert log_count_ratio(0, 0) == 0.0
    assert log_count_ratio(7, 0) == pytest.approx(math.log(15))
    assert log_count_ratio(0, 7) == -log_count_ratio(7, 0)
    assert math.exp(log_count_ratio(14890, 1000)) == pytest.approx(14.89, rel=1e-3)
    with pytest.raises(ValueError, match="thoughts"):
        log_count_ratio(-1, 2)


def test_permuting_questions_and_their_strata_leaves_the_estimate():
    generator = random.Random(0)
    rows = [(generator.random(), generator.choice("ab")) for _ in range(40)]
    value = bootstrap_mean(np.array([v for v, _ in rows]), [s for _, s in rows], 10, 0.95, seed=0).value
    generator.shuffle(rows)
    assert bootstrap_mean(
        np.array([v for v, _ in rows]), [s for _, s in rows], 10, 0.95, seed=0
    ).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("number", "rank", "coverage"),
    [(5, 1, 0.9375), (6, 1, 0.96875), (8, 2, 1 - 2 * 9 / 256), (20, 6, 1 - 2 * 21700 / 2**20)],
)
def test_the_medians_order_statistics_have_their_exact_coverage(number, rank, coverage):
    interval = median_interval(list(range(number, 0, -1)), 0.95)
    assert tuple(interval) == ((number + 1) / 2, rank, number + 1 - rank)
    draws = np.random.default_rng(number).exponential(size=(4000, number))
    held = [found.low <= math.log(2) <= found.high for found in (median_interval(row, 0.95) for row in draws)]
    assert np.mean(held) == pytest.approx(coverage, abs=3.5 * math.sqrt(coverage * (1 - coverage) / 4000))


def test_four_values_are_too_few_for_the_medians_interval():
    interval = median_interval([1.0, 2.0, 3.0, 4.0], 0.95)
    assert interval.value == 2.5 and math.isnan(interval.low) and math.isnan(interval.high)
    assert all(math.isnan(bound) for bound in median_interval([], 0.95))
