"""Grades of answers: both graders and, where it is another, the training reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prerl.config.functions import RewardSettings
from prerl.config.key import from_dict
from prerl.evaluation.grading import grade_math_verify
from prerl.rollouts.functions import Reward
from prerl.rollouts.rewards import is_equiv, last_boxed


def grade_answers(texts: Sequence[str], problems: Sequence[Mapping], settings: Mapping) -> dict[str, list]:
    """Columns `hendrycks` (bool), `math_verify` ("right", "wrong", "unscorable"), `boxed` (text or None).

    Unit and tolerance of a problem are for math-verify only. problems: of each answer, its row of a problem file.
    settings: of rule grade_samples; with `reward` there is a column `reward`, a number in [0, 1]. Raises FunctionError.
    """
    boxed = [last_boxed(text) for text in texts]
    pairs = [(box, p["answer"], p.get("unit"), p.get("tolerance")) for box, p in zip(boxed, problems, strict=True)]
    grades: dict[str, list] = {
        "hendrycks": [box is not None and is_equiv(box, p["answer"]) for box, p in zip(boxed, problems, strict=True)],
        "math_verify": grade_math_verify(pairs, settings["processes"], settings["time_limit_s"]),
        "boxed": boxed,
    }
    if "reward" in settings:
        reward = Reward(from_dict(RewardSettings, settings["reward"]), settings["processes"])
        grades["reward"] = [score.value for score in reward.score(texts, problems)]
    return grades
