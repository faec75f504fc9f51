"""A synthetic study with known truths: aggregate files as aggregate_scores and the alignment rules write them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from prerl.evaluation.contrasts import contrast_table
from prerl.evaluation.ood_scores import collect, contrasts

CONFIGURED = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text(encoding="utf-8"))["methods"]
SEEDS = [11, 12, 13, 14, 15]
MAIN, OOD, VALIDATION = ["chain3", "chain4"], ["chain6", "chain8"], ["chain3", "chain4"]
UPDATES, SWITCH, SAMPLES, QUESTIONS = 60, 20, 8, 10
ALONE = {"grpo": 60, "prerl": 60, "psr_rl": 60, "nsr_rl": 60, "psr_prerl": 60, "nsr_prerl": 40}
CHAINED = {"dsrl": ("nsr_prerl", 20), "dsrl_s5": ("nsr_prerl", 5), "dsrl_s10": ("nsr_prerl", 10)}
CHAINED |= {"dsrl_s40": ("nsr_prerl", 40), "nsr_rl_warmup": ("nsr_rl", 20)}
# correct answers of the 8 to every question, at (method, update); benchmark chain3; one fewer on every other benchmark
CORRECT = {
    ("base", 0): 2,
    ("grpo", 20): 6,
    ("grpo", 60): 7,
    ("prerl", 60): 3,
    ("psr_rl", 60): 6,
    ("nsr_rl", 60): 6,
    ("psr_prerl", 60): 1,
    ("nsr_prerl", 20): 3,
    ("nsr_prerl", 40): 1,
    ("dsrl", 60): 7,
    ("dsrl_s5", 60): 7,
    ("dsrl_s10", 60): 7,
    ("dsrl_s40", 60): 5,
    ("nsr_rl_warmup", 60): 6,
}
SHAPE = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 4, "head_dim": 24, "vocab_size": 31, "tie_word_embeddings": True}
TRAIN_COLUMNS = {
    "entropy_nats": (0.6, 0.15),
    "response_tokens_mean": (20.0, 45.0),
    "prompts_solved": (0.05, 0.7),
    "prompts_unsolved": (0.5, 0.05),
    "prompts_any_solved": (0.5, 0.95),
    "logp_yx_right": (-0.4, -0.1),
    "logp_yx_wrong": (-0.7, -0.5),
    "tokens_sampled": (5000.0, 11000.0),
    "tokens_trained": (4000.0, 9000.0),
    "prompt_tokens": (800.0, 800.0),
    "rows_trained": (120.0, 200.0),
    "seconds_sampling": (0.6, 1.0),
    "seconds_grading": (0.05, 0.05),
    "seconds_training": (0.5, 0.8),
}


def look(method: str) -> dict:
    """Label, colour, line and marker of a method, as the configuration has them."""
    return {key: value for key, value in CONFIGURED.get(method, {}).items() if key != "phases"}


def settings(seeds=SEEDS, models=("miniature",), methods=(*ALONE, *CHAINED)) -> dict:
    """The settings JSON of the publish stage."""
    blocks: dict[str, dict] = {}
    for name, last in ALONE.items():
        phase = {"space": "pretrain" if name.endswith("prerl") else "posttrain", "updates": last}
        blocks[name] = {"parent": None, "first_update": 1, "last_update": last, "phases": [phase]}
    for name, (parent, steps) in CHAINED.items():
        phases = [blocks[parent]["phases"][0] | {"updates": steps}, {"space": "posttrain", "updates": UPDATES - steps}]
        blocks[name] = {"parent": parent, "first_update": steps + 1, "last_update": UPDATES, "phases": phases}
    s_values = {"0": "grpo", "5": "dsrl_s5", "10": "dsrl_s10", "20": "dsrl", "40": "dsrl_s40"}
    return {
        "scale": "miniature",
        "reading": None,
        "verdicts": True,
        "models": list(models),
        "seeds": list(seeds),
        "alignment": [{"model": model, "seed": seed, "benchmark": "chain3"} for model in models for seed in seeds],
        "runs": list(methods),
        "behind": {"rules": ["train_policy"], "sets": [], "answered": list(methods)},
        "controls": {"another": {"label": "another warm-up", "replace": {"dsrl": "nsr_rl_warmup"}}},
        "regimes": {model: {"under_prompt": 0.02 * (i + 1), "alone": 0.5} for i, model in enumerate(models)},
        "methods": {name: look(name) | blocks[name] for name in methods},
        "main_benchmarks": MAIN,
        "ood_benchmarks": OOD,
        "ood_sets": dict.fromkeys(OOD, "Hendrycks"),
        "ood_left_out": [],
        "validation_benchmarks": VALIDATION,
        "warmup": {"method": "dsrl", "s_values": {s: m for s, m in s_values.items() if m in methods}},
        "samples_per_question": SAMPLES,
        "confidence": 0.95,
        "bootstrap": {"resamples": 200, "confidence": 0.95, "seed": 0},
        "updates": UPDATES,
        "reference_updates": {"nsr": 20, "rl": 60},
        "switch_update": SWITCH,
        "validation_answers": 160,
        "prompts_per_update": 32,
        "shapes": dict.fromkeys(models, SHAPE),
    }


def questions(config: dict) -> pd.DataFrame:
    """Answers per question: CORRECT, and the first seed's first question of `dsrl` one lower (so that seeds differ).

    math-verify calls one more answer to question 1 right; on question 3 the graders differ once each way.
    Base: 1 reflection, 0 transitions per question; NSR-PreRL at 20: 4 and 1; others 6 and 2. Tokens 20 for the base,
    30 for NSR-PreRL and 40 for others.
    """
    rows = []
    for (method, update), correct in CORRECT.items():
        if method != "base" and method not in config["methods"]:
            continue
        tokens, reflections, transitions = {"base": (20, 1, 0), "nsr_prerl": (30, 4, 1)}.get(method, (40, 6, 2))
        for seed in config["seeds"]:
            for benchmark in MAIN + OOD:
                for index in range(QUESTIONS):
                    right = correct - (benchmark != "chain3")
                    right -= method == "dsrl" and seed == config["seeds"][0] and index == 0
                    rows.append(
                        {
                            "method": method,
                            "update": update,
                            "seed": seed,
                            "benchmark": benchmark,
                            "question": f"{benchmark}-{index}",
                            "n": SAMPLES,
                            "correct": right,
                            "correct_math_verify": min(right + (index == 1), SAMPLES),
                            "unscorable": int(index == 2),
                            "differ": 2 * (index == 3) + (index == 1),
                            "tokens_mean": float(tokens),
                            "truncated": 0,
                            "reflections": reflections,
                            "transitions": transitions,
                            "executions": 10,
                        }
                    )
    return pd.DataFrame(rows)


def _pass_at_k(n: int, correct: int, k: int) -> float:
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """avg@8 and pass@1, 2, 4, 8 of every benchmark and of the mean over the main ones."""
    rows = []
    keys = ["method", "update", "seed"]
    metrics = {f"pass@{k}": k for k in (1, 2, 4, 8)} | {"avg@8": 1}
    for metric, k in metrics.items():
        value = table.assign(value=[_pass_at_k(n, c, k) for n, c in zip(table["n"], table["correct"], strict=True)])
        by_benchmark = value.groupby([*keys, "benchmark"])["value"].mean().reset_index()
        main = by_benchmark[by_benchmark["benchmark"].isin(MAIN)]
        mean = main.groupby(keys)["value"].mean().reset_index().assign(benchmark="mean")
        both = pd.concat([by_benchmark, mean])
        count = np.where(both["benchmark"] == "mean", len(MAIN), 1) * QUESTIONS
        rows.append(
            both.assign(
                grader="hendrycks",
                metric=metric,
                boot_low=both["value"] - 0.02,
                boot_high=both["value"] + 0.02,
                n_questions=count,
                n_answers=count * SAMPLES,
            )
        )
    return pd.concat(rows, ignore_index=True)


def validation_accuracy(method: str, update: int, seed_index: int) -> float:
    """Piecewise linear truths: GRPO 0.2 at 0, 0.8 at 60; DSRL 0.2 + 0.01 u to 20, 0.8 at 40; PreRL peaks at 30."""
    if method == "prerl":
        value = 0.2 + 0.01 * min(update, 30) - 0.01 * max(update - 30, 0)
    elif method in ("nsr_prerl", "psr_prerl"):
        value = 0.2 + (0.01 if method == "nsr_prerl" else -0.005) * min(update, 20)
    elif method.startswith("dsrl"):
        value = 0.2 + 0.01 * update if update <= 20 else min(0.4 + 0.02 * (update - 20), 0.8)
    else:
        value = 0.2 + 0.01 * update
    return value + 0.002 * seed_index * (update > 0)


def curves(config: dict) -> pd.DataFrame:
    """Whole-chain training and validation curves of every method; validations every 10 updates."""
    rows = []
    for method, block in config["methods"].items():
        for index, seed in enumerate(config["seeds"]):
            rng = np.random.default_rng(index)
            for update in range(1, block["last_update"] + 1):
                for name, (start, end) in TRAIN_COLUMNS.items():
                    value = (start + (end - start) * update / UPDATES) * (1 + 0.03 * rng.standard_normal())
                    if method == "grpo" and name == "entropy_nats":
                        value *= 0.7
                    if name == "prompts_solved":
                        value = 0.01 * update + 0.001 * index
                    if name == "logp_yx_right" and update % 17 == 0:
                        value = math.nan
                    rows.append((method, seed, update, "train", name, "", value))
            for update in range(0, block["last_update"] + 1, 10):
                accuracy = validation_accuracy(method, update, index)
                values = {"accuracy": accuracy, "response_tokens_mean": 20 + update / 3, "truncation_rate": 0.0}
                for name, value in values.items():
                    rows += [(method, seed, update, "validation", name, b, value) for b in (*VALIDATION, "mean")]
    return pd.DataFrame(rows, columns=["method", "seed", "update", "kind", "name", "benchmark", "value"])


def alignment(seed_index: int, rollouts: int = 24) -> dict[str, pd.DataFrame]:
    """Rollouts, the comparisons of their gradients and 30 tokens of each, by file.

    The cosines with the own x average exactly 0.40 + 0.01 · seed_index, with another problem's x 0.10.
    """
    rng = np.random.default_rng(100 + seed_index)
    spread = np.linspace(-0.2, 0.2, rollouts)
    gap = rng.gamma(2, 0.1, rollouts)
    key = {
        "benchmark": "chain3",
        "question": [f"q{i // 4}" for i in range(rollouts)],
        "sample": np.arange(rollouts, dtype=np.int32) % 4,
    }
    counts = {"tokens": 30, "truncated": False, "reflections": 1, "transitions": 0, "executions": 2}
    table = pd.DataFrame(
        {**key, "right": np.arange(rollouts) % 3 == 0, **counts, "logp_yx": -0.3 - gap, "logp_y": -0.5 - gap}
    )
    own = 0.4 + 0.01 * seed_index + spread
    cosines = {("own_x", 0): own, ("other_x", 0): 0.2 + spread / 2, ("other_x", 1): spread / 2}
    cosines |= {(name, 0): 0.3 + spread for name in ("shuffled_x", "empty_x", "shuffled_y")}
    cosines |= {("other_xy", 0): 0.03 + spread / 2}
    gradients = pd.concat(
        [
            pd.DataFrame(
                {**key, "compared": name, "draw": draw, "group": group, "inner_sum": 900 * cosine * share}
                | {"inner_mean": cosine * share, "cosine": cosine * share, "norm_y": 1.0, "norm": 1.0}
            )
            for (name, draw), cosine in cosines.items()
            for group, share in (("all", 1.0), ("attention", 0.5))
        ],
        ignore_index=True,
    )
    count = rollouts * 30
    position = np.tile(np.arange(30, dtype=np.int32), rollouts)
    entropy = rng.gamma(1.2, 0.4, count)
    logp_yx = -rng.exponential(0.05 + entropy)
    logp_y = logp_yx - rng.exponential(0.05 + 2 / (1 + position))
    token_table = pd.DataFrame(
        {
            "benchmark": "chain3",
            "question": np.repeat(table["question"].to_numpy(), 30),
            "sample": np.repeat(table["sample"].to_numpy(), 30),
            "position": position,
            "logp_yx": logp_yx,
            "logp_y": logp_y,
            "entropy_yx": entropy,
            "same_top1": rng.random(count) < 0.9 - 0.5 / (1 + position),
        }
    )
    return {"alignment": table, "gradients": gradients, "tokens": token_table}


@dataclass(frozen=True)
class Study:
    """Settings and the files of one synthetic study, by command-line flag."""

    config: dict
    files: dict[str, list[Path]]


def write_study(folder: Path, config: dict) -> Study:
    """Write every aggregate file of `config` under `folder`."""
    files = {"questions": [], "scores": [], "contrasts": [], "curves": [], "ood": [], "ood-contrasts": []}
    files |= {"alignment": [], "gradients": [], "tokens": []}
    for model in config["models"]:
        table = questions(config)
        frames = {"questions": table, "scores": scores(table), "curves": curves(config)}
        frames["contrasts"] = contrast_table(table, config | {"benchmarks": MAIN + OOD})
        frames["ood"] = collect(table, config | {"tasks": {}})
        frames["ood-contrasts"] = contrasts(frames["ood"], config | {"tasks": {}})
        for flag, frame in frames.items():
            files[flag].append(folder / f"{model}.{flag}.parquet")
            frame.to_parquet(files[flag][-1])
    for index, run in enumerate(config["alignment"]):
        for flag, frame in alignment(index).items():
            files[flag].append(folder / f"{run['model']}.{run['seed']}.{flag}.parquet")
            frame.to_parquet(files[flag][-1])
    return Study(config, files)
