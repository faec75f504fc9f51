"""The paper's idea: optimise log P(y) in place of log P(y|x).

Standard RL works in the post-train space, PreRL in the pre-train space (abstract of arXiv 2604.14142):

    post-train space    grad log P(y|x) R        x: the prompt
    pre-train space     grad log P(y) R          no x

and, as a control that the paper lacks,

    mismatched          grad log P(y|x') R       x': another problem's prompt

Rollouts y ~ P(y|x) and rewards R are the same in all. Only the update drops x: `contexts` below is the one place where
that happens. A model cannot score the first token of y after nothing, so P(y) is in truth P(y | prefix) with one prefix
token in place of the prompt, `<|im_start|>` for Qwen3 (official: 151644, verl/trainer/ppo/ray_trainer.py 1180-1227).
The chat template belongs to x and goes with it; y ends with its EOS in each space.
"""

from __future__ import annotations

SPACES = ("posttrain", "pretrain", "mismatched")


def contexts(space: str, prompts: list[list[int]], prefix_id: int) -> list[list[int]]:
    """Token ids that each response is scored after: its prompt x, the prefix token alone, or the batch's next prompt.

    prompts: one a row. contexts("pretrain", [[5, 6], [7]], 1) == [[1], [1]]; "posttrain" gives the prompts back;
    "mismatched" gives each row the prompt that comes after its own in order of first appearance, the last one the
    first: contexts("mismatched", [[5, 6], [5, 6], [7]], 1) == [[7], [7], [5, 6]]. Raises ValueError on any other space,
    and on a mismatch without a second prompt.
    """
    if space == "posttrain":
        return prompts
    if space == "pretrain":
        return [[prefix_id]] * len(prompts)
    if space == "mismatched":
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        if len(distinct) == 1:
            raise ValueError("space mismatched: the batch has one prompt and needs another: raise prompts_per_update")
        following = dict(zip(distinct, distinct[1:] + distinct[:1], strict=True))
        return [list(following[tuple(prompt)]) for prompt in prompts]
    raise ValueError(f"space: {space!r} is none of {', '.join(SPACES)}")
