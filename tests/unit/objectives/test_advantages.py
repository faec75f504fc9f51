"""The estimators beside GRPO's: worked numbers, naive references by group and by token, invariances."""

import pytest
import torch

from objective_settings import objective
from prerl.objectives.advantages import (
    control_rewards,
    gae_advantages,
    group_advantages,
    nonzero_rows,
    outcome_advantages,
    per_token,
    psr_nsr_advantages,
    reinforce_plus_plus_advantages,
    rloo_advantages,
)
from prerl.objectives.token_mean import loss_rows

ROWS = 24


@pytest.fixture
def batch():
    """(rewards [R], groups [R], tokens of each row, values by token); groups of 4, the first all right."""
    generator = torch.Generator().manual_seed(1)
    rewards = torch.randint(0, 2, (ROWS,), generator=generator).float()
    rewards[:4] = 1.0
    tokens = torch.randint(1, 12, (ROWS,), generator=generator).tolist()
    values = [torch.randn(count, generator=generator) for count in tokens]
    return rewards, torch.arange(ROWS) // 4, tokens, values


def naive_whitened(rows):
    """verl's masked_whiten: padding of +-10,000 under the mask."""
    width = max(map(len, rows))
    values, mask = torch.zeros(len(rows), width, dtype=torch.double), torch.zeros(len(rows), width)
    for row, own in enumerate(rows):
        values[row], mask[row, : len(own)] = 10_000.0 * (-1) ** row, 1
        values[row, : len(own)] = own
    mean = (values * mask).sum() / mask.sum()
    variance = ((values - mean).square() * mask).sum() / (mask.sum() - 1)
    white = (values - mean) / (variance + 1e-8).sqrt()
    return [white[row, : len(own)].float() for row, own in enumerate(rows)]


def naive_gae(reward, values, gamma, lam):
    """The definition: sums over all later steps, not a recursion."""
    last = len(values) - 1
    rewards = [reward if t == last else 0.0 for t in range(len(values))]
    following = [*values[1:].tolist(), 0.0]
    deltas = [rewards[t] + gamma * following[t] - values[t].item() for t in range(len(values))]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, len(values))) for t in range(len(values))]


def test_leave_one_out_by_hand_and_naive(batch):
    rewards, groups = torch.tensor([1.0, 0, 0, 0, 1, 1]), torch.tensor([7, 7, 7, 7, 3, 3])
    torch.testing.assert_close(rloo_advantages(rewards, groups), torch.tensor([1, -1 / 3, -1 / 3, -1 / 3, 0, 0]))
    rewards, groups, _, _ = batch
    expected = []
    for row in range(ROWS):
        others = [rewards[i].item() for i in range(ROWS) if groups[i] == groups[row] and i != row]
        expected.append(rewards[row].item() - sum(others) / len(others))
    ours = rloo_advantages(rewards, groups)
    torch.testing.assert_close(ours, torch.tensor(expected))
    assert ours.dtype == torch.float32 and (ours[:4] == 0).all()
    torch.testing.assert_close(ours, group_advantages(rewards, groups, False) * 4 / 3)


def test_every_wrong_row_counts_with_minus_one_also_of_an_all_wrong_group():
    rewards = torch.tensor([0.0, 0, 1, 0])
    assert psr_nsr_advantages(rewards, 0.0).tolist() == [-1, -1, 0, -1]
    torch.testing.assert_close(psr_nsr_advantages(rewards, 0.1), torch.tensor([-1, -1, 0.1, -1]))
    assert (group_advantages(rewards, torch.tensor([0, 0, 1, 1]), False)[:2] == 0).all()  # unlike GRPO's
    nsr = objective(estimator="psr_nsr", positive_advantage_weight=0.0)
    assert outcome_advantages(nsr, rewards, torch.tensor([0, 0, 1, 1]), [1] * 4).tolist() == [-1, -1, 0, -1]


def test_reinforce_plus_plus_by_hand_and_naive(batch):
    one, three = reinforce_plus_plus_advantages(torch.tensor([1.0, 0.0]), [1, 3], 1.0)
    torch.testing.assert_close(torch.cat([one, three]), torch.tensor([1.5, -0.5, -0.5, -0.5]))
    rewards, _, tokens, _ = batch
    for gamma in (1.0, 0.9):
        returns = []
        for row in range(ROWS):
            running, own = 0.0, []
            for t in range(tokens[row] - 1, -1, -1):
                running = (rewards[row].item() if t == tokens[row] - 1 else 0.0) + gamma * running
                own.insert(0, running)
            returns.append(torch.tensor(own, dtype=torch.double))
        ours = reinforce_plus_plus_advantages(rewards, tokens, gamma)
        for own, other in zip(ours, naive_whitened(returns), strict=True):
            torch.testing.assert_close(own, other)
        everything = torch.cat(ours)
        assert everything.mean().abs() < 1e-6 and everything.std() == pytest.approx(1.0, abs=1e-6)


def test_gae_by_hand_and_naive(batch):
    values = [torch.tensor([0.5, 0.25]), torch.tensor([0.0])]
    advantages, returns = gae_advantages(torch.tensor([1.0, 0.0]), values, 1.0, 0.5)
    torch.testing.assert_close(torch.cat(returns), torch.tensor([0.625, 1.0, 0.0]))
    raw = torch.tensor([0.125, 0.75, 0.0])  # mean 0.875 / 3
    torch.testing.assert_close(torch.cat(advantages), (raw - raw.mean()) / raw.std())
    rewards, _, _, values = batch
    for gamma, lam in ((1.0, 1.0), (0.97, 0.9), (1.0, 0.0)):
        raw = [torch.tensor(naive_gae(r.item(), v, gamma, lam)).double() for r, v in zip(rewards, values, strict=True)]
        advantages, returns = gae_advantages(rewards, values, gamma, lam)
        for row, white in enumerate(naive_whitened(raw)):
            torch.testing.assert_close(advantages[row], white, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(returns[row], raw[row].float() + values[row], atol=1e-5, rtol=1e-5)
    undiscounted = gae_advantages(rewards, values, 1.0, 1.0)[1]
    assert all(torch.allclose(own, reward, atol=1e-5) for own, reward in zip(undiscounted, rewards, strict=True))


@pytest.mark.parametrize("name", ["grpo", "rloo", "psr_nsr", "reinforce_plus_plus", "gae"])
def test_a_permutation_of_the_rows_permutes_the_advantages(batch, name):
    rewards, groups, tokens, values = batch
    wanted = objective(estimator=name, gamma=0.9, positive_advantage_weight=0.1)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(3))

    def flat(rows):
        own = [tokens[row] for row in rows]
        if name == "gae":
            advantages = gae_advantages(rewards[rows], [values[row] for row in rows], 0.9, 0.9)[0]
        else:
            advantages = outcome_advantages(wanted, rewards[rows], groups[rows], own)
        return per_token(advantages, list(range(ROWS)), own).split(own)

    ours, permuted = flat(list(range(ROWS))), flat(order.tolist())
    for place, row in enumerate(order.tolist()):
        torch.testing.assert_close(permuted[place], ours[row])
    assert sum(map(len, ours)) == sum(tokens)


def test_rewards_that_agree_and_single_tokens_give_zeros():
    for reward in (0.0, 1.0):
        ours = reinforce_plus_plus_advantages(torch.full((3,), reward), [2, 5, 1], 1.0)
        assert all(torch.equal(row, torch.zeros(len(row))) for row in ours)
        assert not nonzero_rows(ours).any()
    assert reinforce_plus_plus_advantages(torch.tensor([1.0]), [1], 1.0)[0].tolist() == [0.0]


def test_a_row_without_a_token_is_left_out():
    """The EOS ablation leaves such rows; the others are what they are without it."""
    rewards, values = torch.tensor([1.0, 1.0, 0.0]), [torch.tensor([0.2, 0.4]), torch.zeros(0), torch.tensor([0.1])]
    advantages, returns = gae_advantages(rewards, values, 1.0, 0.9)
    expected = gae_advantages(rewards[[0, 2]], [values[0], values[2]], 1.0, 0.9)
    assert len(advantages[1]) == len(returns[1]) == 0
    for own, other in zip(([advantages[0], advantages[2]], [returns[0], returns[2]]), expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(own, other, strict=True))
    assert nonzero_rows(advantages).tolist() == [True, False, True]
    assert len(reinforce_plus_plus_advantages(rewards, [2, 0, 1], 1.0)[1]) == 0


def test_advantages_of_rows_and_of_tokens_are_laid_out_alike():
    by_row = torch.tensor([0.5, -1.0, 2.0])
    by_token = [torch.full((2,), 0.5), torch.full((1,), -1.0), torch.full((3,), 2.0)]
    for advantages in (by_row, by_token):
        assert per_token(advantages, [2, 0], [3, 2]).tolist() == [2.0, 2.0, 2.0, 0.5, 0.5]
        assert loss_rows(advantages, "all").tolist() == [True] * 3
    assert nonzero_rows(torch.tensor([0.0, -1e-9])).tolist() == [False, True]
    with pytest.raises(ValueError, match="samples: negative needs an estimator with one advantage a row"):
        loss_rows(by_token, "negative")


def test_control_rewards_swap_or_shuffle_within_groups():
    rewards, groups = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert control_rewards("graded", rewards, groups, 1) is rewards
    assert control_rewards("swapped", rewards, groups, 1).tolist() == [0, 1, 1, 0, 0, 1, 1, 1]
    draws = {tuple(control_rewards("shuffled", rewards, groups, seed).tolist()) for seed in range(40)}
    assert {(sum(draw[:4]), sum(draw[4:])) for draw in draws} == {(2, 1)}  # each group keeps its right rows
    assert len(draws) > 10 and {draw.index(1.0, 4) for draw in draws} == {4, 5, 6, 7}
    again = control_rewards("shuffled", rewards, groups, 3)
    assert again.tolist() == control_rewards("shuffled", rewards, groups, 3).tolist()
    assert rewards.tolist() == [1, 0, 0, 1, 1, 0, 0, 0]
