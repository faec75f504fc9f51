"""The paper's idea: optimise log P(y) in place of log P(y|x).

Standard RL works in the post-train space, PreRL in the pre-train space (abstract of arXiv 2604.14142):

    post-train space    grad log P(y|x) R        x: the prompt
    pre-train space     grad log P(y) R          no x

Rollouts y ~ P(y|x) and rewards R are the same in both. Only the update drops x: `contexts` below is the one place where
that happens. A model cannot score the first token of y after nothing, so P(y) is in truth P(y | prefix) with one prefix
token in place of the prompt, `<|im_start|>` for Qwen3 (official: 151644, verl/trainer/ppo/ray_trainer.py 1180-1227).
The chat template belongs to x and goes with it; y ends with its EOS in both spaces.
"""

from __future__ import annotations

SPACES = ("posttrain", "pretrain")


def contexts(space: str, prompts: list[list[int]], prefix_id: int) -> list[list[int]]:
    """Token ids that each response is scored after: its prompt x, or the prefix token alone.

    prompts: one a row. contexts("pretrain", [[5, 6], [7]], 1) == [[1], [1]]; "posttrain" gives the prompts back. Raises
    ValueError on any other space.
    """
    if space == "posttrain":
        return prompts
    if space == "pretrain":
        return [[prefix_id]] * len(prompts)
    raise ValueError(f"space: {space!r} is none of {', '.join(SPACES)}")
