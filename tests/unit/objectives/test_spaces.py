"""Where x is dropped, by hand."""

import pytest

from prerl.objectives.spaces import contexts

PROMPTS = [[5, 6, 7], [8]]


def test_the_post_train_space_keeps_each_prompt():
    assert contexts("posttrain", PROMPTS, 1) == PROMPTS


def test_the_pre_train_space_puts_the_prefix_token_in_its_place():
    assert contexts("pretrain", PROMPTS, 1) == [[1], [1]]


def test_another_space_is_refused():
    with pytest.raises(ValueError, match="space: 'no' is none of posttrain, pretrain"):
        contexts("no", PROMPTS, 1)
