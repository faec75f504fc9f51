"""From grades, thoughts and training histories to the tables that figures read: questions, scores, curves (pandas).

A missing or repeated answer, question, update or benchmark is an error: a mean over whatever is there proves nothing.
"""

import numpy as np
import pandas as pd

from prerl.core.constants import MEAN
from prerl.core.files import read_table
from prerl.core.statistics import avg_at_k, bootstrap_ratio, pass_at_k, resample_counts
from prerl.evaluation.answers import SAMPLE_KEY
from prerl.evaluation.results import GRADERS

KEY = list(SAMPLE_KEY)
VALIDATION_VALUES = ["accuracy", "response_tokens_mean", "truncation_rate"]


def _check_answers(table: pd.DataFrame, samples: int, path: str) -> None:
    """Raise ValueError unless each update has each question once per sample 0 … samples − 1."""
    remedy = "rerun generate_samples, grade_samples and count_thoughts for it with the configured number of samples"
    if table.empty:
        raise ValueError(f"{path} holds no answers; {remedy}")
    if table.duplicated(KEY).any():
        first = table[table.duplicated(KEY)].iloc[0]
        raise ValueError(f"{path}: the answer {tuple(first[KEY])} occurs more than once; {remedy}")
    if not table["sample"].between(0, samples - 1).all():
        raise ValueError(f"{path}: sample numbers reach {table['sample'].max()} with {samples} samples; {remedy}")
    sizes = table.groupby(KEY[:-1]).size()
    if (sizes != samples).any():
        short = sizes[sizes != samples]
        raise ValueError(
            f"{path}: {len(short)} questions do not have {samples} answers, "
            f"first {short.index[0]} with {short.iloc[0]}; {remedy}"
        )


def read_evaluation(evaluation: dict, samples: int) -> pd.DataFrame:
    """Rows (update, benchmark, question) of one method and seed, sorted, with counts summed over its `samples` answers.

    `evaluation`: {"method", "seed", "updates", "grades", "thoughts"}, the last two paths. Raises ValueError on
    incomplete files.
    """
    grades, thoughts = read_table(evaluation["grades"]).to_pandas(), read_table(evaluation["thoughts"]).to_pandas()
    _check_answers(grades, samples, evaluation["grades"])
    _check_answers(thoughts, samples, evaluation["thoughts"])
    answers = grades.merge(thoughts, on=KEY, how="inner", validate="one_to_one")
    if not len(answers) == len(grades) == len(thoughts):
        raise ValueError(
            f"{evaluation['grades']} and {evaluation['thoughts']} hold different answers: "
            "rerun grade_samples and count_thoughts from the same samples"
        )
    if set(answers["update"]) != set(evaluation["updates"]):
        raise ValueError(
            f"{evaluation['grades']} holds the updates {sorted(set(answers['update']))}, but "
            f"{evaluation['updates']} are to be evaluated: rerun generate_samples with the configured evaluated updates"
        )
    answers["right"] = answers["math_verify"] == "right"
    answers["unscorable"] = answers["math_verify"] == "unscorable"
    answers["differ"] = answers["hendrycks"] != answers["right"]  # an unscorable answer is not right
    rewarded = {"reward": ("reward", "sum")} if "reward" in answers else {}  # of a reward other than Hendrycks equality
    questions = answers.groupby(KEY[:-1], as_index=False, sort=True).agg(
        n=("sample", "size"),
        **rewarded,
        correct=("hendrycks", "sum"),
        correct_math_verify=("right", "sum"),
        unscorable=("unscorable", "sum"),
        differ=("differ", "sum"),
        tokens_mean=("tokens", "mean"),
        truncated=("truncated", "sum"),
        reflections=("reflections", "sum"),
        transitions=("transitions", "sum"),
        executions=("executions", "sum"),
    )
    questions.insert(0, "method", evaluation["method"])
    questions.insert(2, "seed", evaluation["seed"])
    return questions


def collect_questions(evaluations: list[dict], benchmarks: list[str], samples: int) -> pd.DataFrame:
    """The questions table of all evaluations: the same questions of `benchmarks` for each method, seed and update."""
    reference: set | None = None
    frames = []
    for evaluation in evaluations:
        frame = read_evaluation(evaluation, samples)
        for update, rows in frame.groupby("update"):
            found = set(zip(rows["benchmark"], rows["question"], strict=True))
            reference = found if reference is None else reference
            if found != reference:
                raise ValueError(
                    f"{evaluation['grades']}: update {update} has other questions than {evaluations[0]['grades']}, "
                    f"first {sorted(found ^ reference)[0]}; evaluate every method on the same benchmarks"
                )
        frames.append(frame)
    if not frames:
        raise ValueError("settings name no evaluation: add at least one method and seed")
    questions = pd.concat(frames, ignore_index=True)
    if set(questions["benchmark"]) != set(benchmarks):
        raise ValueError(
            f"the evaluations hold the benchmarks {sorted(set(questions['benchmark']))}, but {sorted(benchmarks)} are "
            "configured: rerun generate_samples with the configured benchmarks"
        )
    if questions.duplicated(["method", "update", "seed", "benchmark", "question"]).any():
        raise ValueError("settings name a method and seed twice: list every evaluation once")
    return questions


def _metric_columns(rows: pd.DataFrame, samples: int) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """(grader, metric) → numerators and denominators (Q,) by question; the grader is "" for metrics that need none."""
    n, ones = rows["n"].to_numpy(float), np.ones(len(rows))
    tokens = rows["tokens_mean"].to_numpy(float) * n
    columns = {}
    for grader, name in GRADERS.items():
        correct = rows[name].to_numpy(float)
        columns[grader, f"avg@{samples}"] = (avg_at_k(n, correct), ones)
        for k in (2**power for power in range(samples.bit_length())):
            columns[grader, f"pass@{k}"] = (pass_at_k(n, correct, k), ones)
    if "reward" in rows:
        columns["reward", f"avg@{samples}"] = (rows["reward"].to_numpy(float) / n, ones)
    for name in ("reflections", "transitions"):
        columns["", f"{name}_per_answer"] = (rows[name].to_numpy(float), n)
        columns["", f"{name}_per_1k_tokens"] = (rows[name].to_numpy(float), tokens / 1000)
    columns["", "tokens_mean"] = (tokens, n)
    columns["", "truncation_rate"] = (rows["truncated"].to_numpy(float), n)
    return columns


def score_questions(questions: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The scores table: every metric of each method, update and seed, by benchmark and as the unweighted mean.

    The bootstrap draws questions within benchmarks, the same draws for every method, update and seed. Under math-verify
    an unscorable answer is not right (the questions table counts them).
    """
    bootstrap, samples = settings["bootstrap"], settings["samples_per_question"]
    missing = set(settings["main_benchmarks"]) - set(questions["benchmark"])
    if missing or not settings["main_benchmarks"]:
        raise ValueError(f"main_benchmarks {sorted(missing)} have no evaluated question: evaluate them or drop them")
    parts, counts = [], None
    for (method, update, seed), rows in questions.groupby(["method", "update", "seed"], sort=False):
        strata = rows["benchmark"].to_numpy()
        if counts is None:  # all groups hold the same questions in the same order (collect_questions)
            counts = resample_counts(list(strata), bootstrap["resamples"], bootstrap["seed"])
        columns = _metric_columns(rows, samples)
        numerators = np.stack([pair[0] for pair in columns.values()], axis=1)
        denominators = np.stack([pair[1] for pair in columns.values()], axis=1)
        selections = {name: strata == name for name in dict.fromkeys(strata)}
        selections[MEAN] = np.isin(strata, settings["main_benchmarks"])
        for benchmark, chosen in selections.items():
            interval = bootstrap_ratio(
                numerators[chosen],
                denominators[chosen],
                list(strata[chosen]),
                counts[:, chosen],
                bootstrap["confidence"],
            )
            part = pd.DataFrame(list(columns), columns=["grader", "metric"])
            part = part.assign(value=interval.value, boot_low=interval.low, boot_high=interval.high)
            part = part.assign(n_questions=int(chosen.sum()), n_answers=int(rows["n"].to_numpy()[chosen].sum()))
            labels = {"method": method, "update": update, "seed": seed, "benchmark": benchmark}
            for position, (name, label) in enumerate(labels.items()):
                part.insert(position, name, label)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _read_metrics(history: dict, first_update: int, updates: int) -> pd.DataFrame:
    """Training metrics in long form: update, kind, name, benchmark "", value. Every update must occur exactly once."""
    metrics = read_table(history["metrics"]).to_pandas()
    if sorted(metrics["update"]) != list(range(first_update, updates + 1)):
        raise ValueError(
            f"{history['metrics']}: updates are not exactly {first_update} … {updates}, once each; run train_policy of "
            f"{history['method']} seed {history['seed']} again"
        )
    numeric = metrics.drop(columns="update").select_dtypes(["number", "bool"]).astype(float)
    long = numeric.assign(update=metrics["update"]).melt(id_vars="update", var_name="name", value_name="value")
    return long.assign(kind="train", benchmark="")


def _read_validation(history: dict, first_update: int, updates: int, benchmarks: list[str]) -> pd.DataFrame:
    """Validation in long form with the unweighted mean over `benchmarks`; update 0 belongs to a chain's first phase."""
    validation = read_table(history["validation"], columns=["update", "benchmark", *VALIDATION_VALUES]).to_pandas()
    remedy = f"run train_policy of {history['method']} seed {history['seed']} again"
    earliest = 0 if first_update == 1 else first_update
    if not validation["update"].between(earliest, updates).all():
        raise ValueError(f"{history['validation']}: an update lies outside {earliest} … {updates}; {remedy}")
    for update, rows in validation.groupby("update"):
        if sorted(rows["benchmark"]) != sorted(benchmarks):
            raise ValueError(
                f"{history['validation']}: update {update} holds {sorted(rows['benchmark'])}, not each of "
                f"{sorted(benchmarks)} once; {remedy}"
            )
    means = validation.groupby("update", as_index=False)[VALIDATION_VALUES].mean().assign(benchmark=MEAN)
    both = pd.concat([validation, means], ignore_index=True)
    long = both.melt(id_vars=["update", "benchmark"], var_name="name", value_name="value")
    return long.assign(kind="validation")


def join_curves(settings: dict) -> pd.DataFrame:
    """The curves table: each method's whole chain: its parent's updates, then those it trained itself.

    Raises ValueError if a method, its parent or an update has no history.
    """
    methods = settings["methods"]
    trained: dict[tuple[str, int], pd.DataFrame] = {}
    for history in settings["histories"]:
        method, seed = history["method"], history["seed"]
        if method not in methods:
            raise ValueError(f"history of {method!r}, which settings['methods'] does not list: add it there")
        if (method, seed) in trained:
            raise ValueError(f"two histories of {method} seed {seed}: list each once")
        span = (methods[method]["first_update"], methods[method]["last_update"])
        parts = [_read_metrics(history, *span), _read_validation(history, *span, settings["validation_benchmarks"])]
        trained[method, seed] = pd.concat(parts, ignore_index=True)

    def chain(method: str, seed: int) -> pd.DataFrame:
        if (method, seed) not in trained:
            raise ValueError(f"no history of {method} seed {seed}, which another method continues: add it to histories")
        parent, first_update = methods[method]["parent"], methods[method]["first_update"]
        if parent is None:
            return trained[method, seed]
        if methods[parent]["last_update"] < first_update - 1:
            raise ValueError(
                f"{method} starts at update {first_update}, but its parent {parent} ends earlier: train that longer"
            )
        before = chain(parent, seed)
        return pd.concat([before[before["update"] < first_update], trained[method, seed]], ignore_index=True)

    columns = ["method", "seed", "update", "kind", "name", "benchmark", "value"]
    curves = [chain(method, seed).assign(method=method, seed=seed)[columns] for method, seed in trained]
    if not curves:
        return pd.DataFrame(columns=columns).astype({"seed": int, "update": int, "value": float})
    order = ["method", "seed", "kind", "name", "benchmark", "update"]
    return pd.concat(curves, ignore_index=True).sort_values(order, kind="stable", ignore_index=True)
