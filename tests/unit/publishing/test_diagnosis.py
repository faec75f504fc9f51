"""The diagnosis of a base model by hand."""

import pandas as pd

from table_diagnosis import diagnose

BOOTSTRAP = {"bootstrap": {"resamples": 200, "confidence": 0.95, "seed": 0}}


def rows(space, question, right, thoughts, tokens=10):
    return [
        {"seed": 1, "space": space, "question": question, "sample": i, "right": r, "reflections": t, "transitions": 0}
        | {"tokens": tokens, "truncated": i == 0}
        for i, (r, t) in enumerate(zip(right, thoughts, strict=True))
    ]


def test_groups_styles_and_lengths():
    table = rows("posttrain", "a", [True, True], [0, 0]) + rows("posttrain", "b", [True, False], [1, 0])
    table += rows("posttrain", "c", [False, False], [0, 0]) + rows("posttrain", "d", [False, False], [0, 0])
    table += rows("pretrain", "", [False, False], [3, 0], tokens=30)
    cells = diagnose(pd.DataFrame(table), BOOTSTRAP)
    values = {name: cell.split(" [")[0] for name, cell in cells.items()}
    assert values == {
        "right, %": "37.5",
        "groups all right, %": "25.0",
        "groups mixed, %": "25.0",
        "groups all wrong, %": "50.0",
        "thinking under the prompt, %": "12.5",
        "thinking in P(y), %": "50.0",
        "tokens under the prompt": "10",
        "truncated under the prompt, %": "50.0",
        "tokens in P(y)": "30",
        "truncated in P(y), %": "50.0",
        "answers": "8 + 2",
    }
