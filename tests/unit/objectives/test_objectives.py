"""Advantages, counting rows, token weights, packing and surrogate, by hand and against naive loops."""

import itertools

import pytest
import torch

from objective_settings import objective
from prerl.core.partition import balanced_partition
from prerl.objectives.advantages import group_advantages
from prerl.objectives.surrogate import clip_fraction, clipped_surrogate
from prerl.objectives.token_mean import loss_rows, official_packing, row_weights


def test_advantages_by_hand():
    rewards, groups = torch.tensor([1.0, 0, 0, 0, 1, 1]), torch.tensor([7, 7, 7, 7, 3, 3])
    plain = group_advantages(rewards, groups, divide_by_std=False)
    assert plain.tolist() == [0.75, -0.25, -0.25, -0.25, 0.0, 0.0] and plain.dtype == torch.float32
    divided = group_advantages(rewards, groups, divide_by_std=True)
    # squares 0.5625 + 3 * 0.0625 = 0.75 over n - 1 = 3: std 0.5
    expected = torch.tensor([0.75, -0.25, -0.25, -0.25, 0.0, 0.0]) / 0.500001
    torch.testing.assert_close(divided, expected, rtol=1e-7, atol=0)


def test_the_standard_deviation_has_ddof_1_and_epsilon_1e_6():
    rewards = torch.tensor([0.0, 1e-6])  # mean 5e-7, std (ddof 1) 1e-6 / sqrt(2): epsilon is as large
    expected = 5e-7 / (1e-6 / 2**0.5 + 1e-6)
    assert group_advantages(rewards, torch.tensor([0, 0]), True)[1].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3])
@pytest.mark.parametrize("divide_by_std", [True, False])
def test_a_group_that_agrees_gets_exact_zeros(reward, divide_by_std):
    for dtype in (torch.float32, torch.float64):  # seven times 0.1 is not 0.7 in float64
        rewards, groups = torch.full((7,), reward, dtype=dtype), torch.zeros(7, dtype=torch.long)
        assert torch.equal(group_advantages(rewards, groups, divide_by_std), torch.zeros(7))


def test_group_identity_survives_a_permutation():
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randint(0, 2, (64,), generator=generator).float()
    groups = torch.arange(64) // 8 * 5
    order = torch.randperm(64, generator=generator)
    for divide_by_std in (True, False):
        ours = group_advantages(rewards, groups, divide_by_std)
        torch.testing.assert_close(group_advantages(rewards[order], groups[order], divide_by_std), ours[order])
        for group in range(0, 40, 5):
            own = rewards[groups == group]
            expected = own - own.mean()
            expected = expected / (own.std() + 1e-6) if divide_by_std else expected
            torch.testing.assert_close(ours[groups == group], expected, atol=1e-6, rtol=1e-5)


def test_refused_rewards_and_groups():
    with pytest.raises(ValueError, match="one sample only.*samples_per_prompt"):
        group_advantages(torch.tensor([1.0, 0, 1]), torch.tensor([0, 0, 1]), True)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="not finite"):
            group_advantages(torch.tensor([1.0, bad]), torch.tensor([0, 0]), False)


@pytest.mark.parametrize("key", ["space", "samples", "token_mean"])
def test_an_unknown_name_in_an_objective_is_refused(key):
    with pytest.raises(ValueError, match="none of"):
        objective(**{key: "both"})


def test_counting_rows_go_by_the_sign_of_the_advantage():
    advantages = torch.tensor([0.5, -0.5, 0.0, -1e-9])
    assert loss_rows(advantages, "all").tolist() == [True] * 4
    assert loss_rows(advantages, "positive").tolist() == [True, False, False, False]
    assert loss_rows(advantages, "negative").tolist() == [False, True, False, True]  # a wrong row of 0 is none


def batch(rows=24, seed=0):
    """(response tokens [R], prompt + response lengths, advantages [R] of groups of 4, one of them all right)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 15, (rows,), generator=generator)
    lengths = (tokens + torch.randint(3, 9, (rows,), generator=generator)).tolist()
    rewards = torch.randint(0, 2, (rows,), generator=generator).float()
    rewards[:4] = 1.0
    return tokens, lengths, group_advantages(rewards, torch.arange(rows) // 4, False)


def naive_official_loss(tokens, lengths, advantages, losses_RT, wanted):
    """verl's loop: each rank sums over micro-batches masked mean x share of its rows; ranks are averaged (FSDP)."""
    total = torch.zeros((), dtype=torch.double)
    for rank in official_packing(lengths, wanted.max_tokens_per_micro_batch, wanted.ranks):
        for rows in rank:
            mask = torch.zeros(len(rows), losses_RT.shape[1], dtype=torch.double)
            for place, row in enumerate(rows):
                keep = {"all": True, "positive": advantages[row] > 0, "negative": advantages[row] < 0}[wanted.samples]
                mask[place, : tokens[row]] = float(keep)
            if mask.sum() > 0:
                mean = (losses_RT[rows] * mask).sum() / mask.sum()
                total = total + mean * len(rows) / (len(lengths) // wanted.ranks) / wanted.ranks
    return total * wanted.coefficient


def losses(rows, longest=15):
    return torch.rand(rows, longest, generator=torch.Generator().manual_seed(5), dtype=torch.double)


def weighted(tokens, losses_RT, weights):
    return sum(w * losses_RT[row, : tokens[row]].sum() for row, w in enumerate(weights))


@pytest.mark.parametrize("samples", ["all", "positive", "negative"])
@pytest.mark.parametrize("coefficient", [1.0, 0.01])
def test_global_weights_are_the_token_mean_of_the_batch(samples, coefficient):
    tokens, lengths, advantages = batch()
    wanted = objective(samples=samples, coefficient=coefficient)
    counting = loss_rows(advantages, samples)
    weights = row_weights(tokens, counting, wanted, lengths)
    chosen = [losses(24)[row, : tokens[row]] for row in range(24) if counting[row]]
    expected = coefficient * torch.cat(chosen).mean()
    assert weighted(tokens, losses(24), weights).item() == pytest.approx(expected.item(), rel=1e-12)
    assert (weights[~counting] == 0).all() and weights.dtype == torch.float64


@pytest.mark.parametrize("samples", ["all", "positive", "negative"])
@pytest.mark.parametrize(("max_tokens", "ranks"), [(40, 2), (15, 1), (30, 4), (10_000, 2), (1, 3)])
def test_official_weights_equal_the_loop_over_micro_batches(samples, max_tokens, ranks):
    tokens, lengths, advantages = batch()
    wanted = objective(
        samples=samples, token_mean="official", max_tokens_per_micro_batch=max_tokens, ranks=ranks, coefficient=0.01
    )
    weights = row_weights(tokens, loss_rows(advantages, samples), wanted, lengths)
    ours = weighted(tokens, losses(24), weights).item()
    assert ours == pytest.approx(naive_official_loss(tokens, lengths, advantages, losses(24), wanted).item(), rel=1e-12)
    assert torch.isfinite(weights).all()
    if max_tokens == 1 and samples != "all":  # each row alone: micro-batches without a counting token are there
        counting = loss_rows(advantages, samples)
        assert 0 < int(counting.sum()) < 24 and (weights[~counting] == 0).all()


def test_official_and_global_means_differ():
    tokens, lengths, advantages = batch()
    counting = loss_rows(advantages, "negative")
    official = row_weights(tokens, counting, objective(token_mean="official", samples="negative"), lengths)
    total = row_weights(tokens, counting, objective(samples="negative"), lengths)
    assert not torch.allclose(official, total, rtol=0.05)


def test_official_weights_by_hand():
    """One rank, rows of 6, 4 and 2 tokens in micro-batches [0] and [1, 2] (prompt of 1 token each, at most 8)."""
    tokens, lengths = torch.tensor([6, 4, 2]), [7, 5, 3]
    wanted = objective(token_mean="official", max_tokens_per_micro_batch=8, ranks=1)
    assert official_packing(lengths, 8, 1) == [[[1, 2], [0]]]
    weights = row_weights(tokens, torch.tensor([True] * 3), wanted, lengths)
    torch.testing.assert_close(weights, torch.tensor([1 / 3 / 6, 2 / 3 / 6, 2 / 3 / 6]).double())
    weights = row_weights(tokens, torch.tensor([False, True, False]), wanted, lengths)
    torch.testing.assert_close(weights, torch.tensor([0, 2 / 3 / 4, 0]).double())  # its share counts both rows


def test_denominators_of_negative_only_and_of_zero_advantages():
    tokens = torch.tensor([10, 20, 30, 40])
    advantages = torch.tensor([0.0, 0.0, 0.5, -0.5])
    everything = row_weights(tokens, loss_rows(advantages, "all"), objective(), [1] * 4)
    assert everything.tolist() == [1 / 100] * 4  # rows of advantage 0 stay in the mean
    negative = row_weights(tokens, loss_rows(advantages, "negative"), objective(samples="negative"), [1] * 4)
    assert negative.tolist() == [0, 0, 0, 1 / 40]
    nothing = row_weights(tokens, torch.zeros(4, dtype=torch.bool), objective(), [1] * 4)
    assert nothing.tolist() == [0.0] * 4  # no NaN
    official = objective(token_mean="official", samples="negative")
    assert row_weights(tokens, torch.zeros(4, dtype=torch.bool), official, [1] * 4).tolist() == [0.0] * 4


def test_clipped_surrogate_and_clip_fraction_by_hand():
    ratios = torch.tensor([1.0, 1.5, 0.5, 1.1, 1.5, 0.5, 0.9])
    advantages = torch.tensor([2.0, 2.0, 2.0, 2.0, -2.0, -2.0, -2.0])
    # A > 0 is clipped above only, A < 0 below only
    expected = torch.tensor([-2.0, -2.4, -1.0, -2.2, 3.0, 1.6, 1.8])
    old = torch.full((7,), -1.3)
    ours = clipped_surrogate(old + ratios.log(), old, advantages, 0.2, 0.2)
    torch.testing.assert_close(ours, expected)
    assert clip_fraction(old + ratios.log(), old, advantages, 0.2, 0.2) == pytest.approx(2 / 7)
    asymmetric = clipped_surrogate(old + ratios.log(), old, advantages, 0.4, 0.28)
    torch.testing.assert_close(asymmetric, torch.tensor([-2.0, -2.56, -1.0, -2.2, 3.0, 1.2, 1.8]))


def test_on_policy_the_gradient_is_minus_the_advantage_and_nothing_is_clipped():
    logprobs = torch.tensor([-0.5, -2.0, -9.0], requires_grad=True)
    advantages = torch.tensor([1.5, -0.5, 0.0])
    loss = clipped_surrogate(logprobs, logprobs.detach(), advantages, 0.2, 0.2)
    (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
    torch.testing.assert_close(gradient, -advantages)
    assert clip_fraction(logprobs.detach(), logprobs.detach(), advantages, 0.2, 0.2) == 0.0


def test_balanced_partition_by_hand_and_exhaustively():
    assert balanced_partition([8, 7, 6, 5, 4], 2, equal_size=False) == [[1, 3, 4], [0, 2]]  # 16 and 14
    generator = torch.Generator().manual_seed(2)
    for case in range(40):
        lengths = torch.randint(1, 30, (8,), generator=generator).tolist()
        parts = balanced_partition(lengths, 2, equal_size=True)
        assert [len(part) for part in parts] == [4, 4]
        spread = abs(sum(lengths[i] for i in parts[0]) - sum(lengths[i] for i in parts[1]))
        best = min(
            abs(sum(lengths) - 2 * sum(lengths[i] for i in half)) for half in itertools.combinations(range(8), 4)
        )
        assert spread <= best + max(lengths), case


@pytest.mark.parametrize("equal_size", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 3, 8, 24])
def test_balanced_partition_holds_every_item_once(parts, equal_size):
    _, lengths, _ = batch(seed=9)
    split = balanced_partition(lengths, parts, equal_size)
    assert sorted(itertools.chain(*split)) == list(range(24)) and len(split) == parts and all(split)
    assert not equal_size or {len(part) for part in split} == {24 // parts}
    sums = [sum(lengths[i] for i in part) for part in split]
    assert max(sums) - min(sums) <= max(lengths)


def test_official_packing_gives_every_rank_as_many_micro_batches():
    _, lengths, _ = batch(seed=4)
    packing = official_packing(lengths, 40, 3)
    assert sorted(itertools.chain(*itertools.chain(*packing))) == list(range(24))
    assert [sum(map(len, rank)) for rank in packing] == [8, 8, 8]
    sums = [sum(lengths[row] for rows in rank for row in rows) for rank in packing]
    assert {len(rank) for rank in packing} == {max(-(-total // 40) for total in sums)}
    assert all(len(rank) == 8 for rank in official_packing(lengths, 1, 3))  # never more micro-batches than rows
    with pytest.raises(ValueError, match="do not divide"):
        official_packing(lengths, 40, 5)


def test_balanced_partition_settles_ties_as_verl():
    """Reference values from verl 0.5.0, get_seqlen_balanced_partitions: truncated answers are all of one length."""
    lengths = [8, 8, 5, 8, 3, 8, 8, 1, 5, 8, 8, 2]
    assert balanced_partition(lengths, 3, True) == [[0, 1, 6, 7], [2, 3, 4, 9], [5, 8, 10, 11]]
    assert balanced_partition(lengths, 4, False) == [[0, 4, 5], [2, 6, 8], [1, 9, 11], [3, 7, 10]]
