"""What an accuracy costs: updates, tokens, FLOPs and seconds of a method's whole chain, validation not included.

FLOPs are counted from each update's own tokens by the model's shape (config/shapes.py): sampling prefills each prompt
once; the pass with gradient costs three forward passes, over an answer and its prompt (once for all samples of it) or,
in the pre-train space, the prefix token. Measuring both spaces is ours, not the method's, and is left out.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from prerl.config.shapes import Shape
from prerl.core.statistics import t_interval
from prerl.evaluation import results
from prerl.publishing.claims import Evidence, updates_to_target

METHODS = ("grpo", "dsrl")
UNITS = {"updates": 1.0, "tokens": 1e6, "flops": 1e12, "seconds": 60.0}
"""Cost -> what the figure's axis counts it in: tokens in millions, TFLOPs, minutes."""


def flops(values: Mapping[str, pd.DataFrame], spaces: list[str], shape: Shape, prompts: int) -> pd.DataFrame:
    """FLOPs of each update (index) and seed (columns); `values`: metric -> table of that form; `spaces`: by update."""
    prompt, sampled = values["prompt_tokens"], values["tokens_sampled"]
    rows, trained = values["rows_trained"], values["tokens_trained"]
    answer, mean_prompt = values["response_tokens_mean"], prompt / prompts
    sampling = shape.forward_flops(sampled, 2 * mean_prompt + answer, sampled)
    sampling += shape.forward_flops(prompt, mean_prompt, prompts)
    pretrain = np.array([[space == "pretrain"] for space in spaces], dtype=float)
    context = mean_prompt * (1 - pretrain) + pretrain
    contexts = rows.clip(upper=prompts) * mean_prompt * (1 - pretrain) + rows * pretrain
    return sampling + shape.training_flops(contexts + trained, context + answer, trained)


def costs(curves: pd.DataFrame, settings: Mapping, model: str, method: str) -> dict[str, pd.DataFrame]:
    """Cost -> its sum over updates 1 … u of the whole chain: index u, a zero row for u = 0, a column per seed."""
    names = ["tokens_sampled", "tokens_trained", "prompt_tokens", "rows_trained", "response_tokens_mean"]
    names += ["seconds_sampling", "seconds_grading", "seconds_training"]
    values = {name: results.curve(curves, dict(settings), method, name) for name in names}
    spaces = [part["space"] for part in settings["methods"][method]["phases"] for _ in range(part["updates"])]
    each = {
        "updates": values["tokens_sampled"] * 0 + 1.0,
        "tokens": values["tokens_sampled"] + values["tokens_trained"],
        "flops": flops(values, spaces, Shape(**settings["shapes"][model]), settings["prompts_per_update"]),
        "seconds": values["seconds_sampling"] + values["seconds_grading"] + values["seconds_training"],
    }
    sums = {name: table.cumsum() for name, table in each.items()}
    for table in sums.values():
        table.loc[0] = 0.0
    return {name: table.sort_index() for name, table in sums.items()}


def cost_at(total: pd.Series, update: float) -> float:
    """A seed's cost at a fractional update: linear between updates, beyond the last one as much again for each.

    Worked: totals 0, 10, 30 at updates 0, 1, 2 give 20 at 1.5 and 50 at 3.
    """
    last = float(total.iloc[-1])
    beyond = update - float(total.index[-1])
    if beyond > 0:
        return last + beyond * (last - float(total.iloc[-2]))
    return float(np.interp(update, total.index.to_numpy(float), total.to_numpy()))


def rows(evidence: Evidence) -> list[dict]:
    """A row for each model and cost: what GRPO and DSRL spend to the target of the claim `efficiency`, and their ratio.

    Costs are means over seeds; the ratio is a mean of logarithms with its t interval, as in the claim, whose row
    `updates` is of the first model.
    """
    settings, table = evidence.settings, []
    for model in settings["models"]:
        reached = updates_to_target(evidence, model)
        spent = {method: costs(evidence.curves[model], settings, model, method) for method in METHODS}
        for cost in UNITS:
            by_seed = pd.DataFrame(
                {
                    method: [
                        cost_at(spent[method][cost][seed], reached.loc[seed, method]) for seed in settings["seeds"]
                    ]
                    for method in METHODS
                }
            )
            logs = np.log(by_seed["grpo"] / by_seed["dsrl"]).to_numpy()
            ratio, low, high = (math.exp(bound) for bound in t_interval(logs, settings["confidence"]))
            cells = {"model": model, "cost": cost, "grpo": by_seed["grpo"].mean(), "dsrl": by_seed["dsrl"].mean()}
            ends = {method: results.end_update(settings, method) for method in METHODS}
            cells |= {f"{method}_not_reached": int((reached[method] > ends[method]).sum()) for method in METHODS}
            table.append(cells | {"ratio": ratio, "ratio_low": low, "ratio_high": high, "seeds": len(logs)})
    return table
