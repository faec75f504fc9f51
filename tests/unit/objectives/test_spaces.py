"""Where x is dropped, by hand."""

import pytest

from prerl.objectives.spaces import contexts

PROMPTS = [[5, 6, 7], [8]]


def test_the_post_train_space_keeps_each_prompt():
    assert contexts("posttrain", PROMPTS, 1) == PROMPTS


def test_the_pre_train_space_puts_the_prefix_token_in_its_place():
    assert contexts("pretrain", PROMPTS, 1) == [[1], [1]]


def test_a_mismatch_gives_each_problem_the_next_ones_prompt():
    rows = [[5, 6, 7], [5, 6, 7], [8], [9, 9], [9, 9]]
    assert contexts("mismatched", rows, 1) == [[8], [8], [9, 9], [5, 6, 7], [5, 6, 7]]
    with pytest.raises(ValueError, match="has one prompt and needs another"):
        contexts("mismatched", [[8], [8]], 1)


def test_another_space_is_refused():
    with pytest.raises(ValueError, match="space: 'no' is none of posttrain, pretrain, mismatched"):
        contexts("no", PROMPTS, 1)
