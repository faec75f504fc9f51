"""Blocks `warmup_sweep`, `validation`, `evaluation`, `ood`, `alignment`, `grading`, `statistics`, `more_seeds`, `page`:
what is measured, and what of it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prerl.config.base_models import HubModel
from prerl.config.key import COUNT, NAME, NOT_NEGATIVE, POSITIVE, SHARE, TEXT, Limits, key

CONFIDENCE = Limits(gt=0.5, lt=1)


@dataclass(frozen=True)
class WarmupSweep:
    """Other lengths S of a method's first phase."""

    method: str = key("whose first phase is varied")
    lengths: list[int] = key(
        "S, in updates; 0 is the method's last phase alone", COUNT, unique=True, may_be_empty=True, unit="updates"
    )


@dataclass(frozen=True)
class ScheduleEntry:
    """Validations at equal intervals up to an update."""

    every: int = key("distance", COUNT, unit="updates")
    until: int | Literal["end"] = key("last update of this entry", COUNT)


@dataclass(frozen=True)
class Validation:
    """Accuracy during training; also at update 0 and at the last one."""

    benchmarks: list[str] = key("names of data.benchmarks", unique=True, source="AIME24, AIME25, AMC23 (A)")
    samples_per_question: int = key("answers to each question", COUNT, source="Avg@20 (A)")
    max_new_tokens: int = key("longest answer", COUNT, unit="tokens")
    schedule: list[ScheduleEntry] = key("when to validate", source="every 5 to 100, then every 25 (A)")


@dataclass(frozen=True)
class ReferenceUpdates:
    """Updates compared by the claim nsr_fast; nsr_prerl and grpo are also evaluated there."""

    nsr: int = key("of NSR-PreRL", COUNT, unit="updates", source="20 (B)")
    rl: int = key("of GRPO", COUNT, unit="updates", source="60 (B)")


@dataclass(frozen=True)
class Evaluation:
    """Answers of trained policies on the benchmarks."""

    samples_per_question: int = key("answers to each question; pass@k up to it", COUNT, source="32 (B)")
    max_new_tokens: int = key("longest answer", COUNT, unit="tokens")
    reference_updates: ReferenceUpdates = key("what docs/claims.md compares")
    extra_updates: dict[str, list[int]] = key("method -> further updates to evaluate", COUNT, may_be_empty=True)


@dataclass(frozen=True)
class OodGeneration:
    """How out-of-distribution answers are drawn."""

    temperature: float = key("0 is greedy", NOT_NEGATIVE)
    top_p: float = key("nucleus sampling", SHARE)
    max_new_tokens: int = key("longest answer", COUNT, unit="tokens")


@dataclass(frozen=True)
class HarnessTask:
    """A task of lm-evaluation-harness; version, few_shot and questions are asserted."""

    one_of = ("dataset", "folder")
    task: str = key("its name in the harness", TEXT)
    version: float = key("of the task")
    metric: str = key("0 or 1 for each question", TEXT)
    filter: str = key("of the answer, before the metric", TEXT)
    few_shot: int = key("examples in the prompt", NOT_NEGATIVE)
    questions: int = key("number of questions", COUNT)
    runs_code: bool = key("whether it runs what the model writes")
    dataset: HubModel | None = key("its data, downloaded before any job", optional=True)
    folder: str | None = key("a task of your own: folder with its YAML and data", TEXT, optional=True)


@dataclass(frozen=True)
class OodSettings:
    """Out-of-distribution benchmarks by lm-evaluation-harness."""

    run_generated_code: bool = key("run the tasks with runs_code too, in a sandbox; read docs/extending.md first")
    generation: OodGeneration = key("how answers are drawn")
    tasks: dict[str, HarnessTask] = key("name -> task", names=NAME, may_be_empty=True, source="which sets: (B)")


@dataclass(frozen=True)
class AlignmentBenchmark:
    """The base model's rollouts whose gradients are compared."""

    questions: int = key("number of the benchmark's questions, from the first", COUNT, source="40 (B)")
    rollouts_per_question: int = key("answers to each", COUNT, source="400 in all (B)")
    jobs: int = key("jobs that share the rollouts; no change of meaning", COUNT)


@dataclass(frozen=True)
class AlignmentSettings:
    """Gradient alignment of log P(y) with log P(y|x) on the base model's rollouts, asked without prompt.examples."""

    benchmarks: dict[str, AlignmentBenchmark] = key(
        "name of data.benchmarks -> its rollouts; claims and figure are about the first", names=NAME, source="AMC23 (B)"
    )
    max_new_tokens: int = key("longest answer", COUNT, unit="tokens")
    other_problems: int = key("draws of another problem's prompt for each rollout", COUNT, source="ours, a control")


@dataclass(frozen=True)
class GradingSettings:
    """The second grader, math-verify; the first, Hendrycks equality, needs none."""

    time_limit_s: float = key("per answer; beyond it an answer is unscorable", POSITIVE, unit="s")
    processes: int = key("parallel graders", COUNT)


@dataclass(frozen=True)
class StatisticsSettings:
    """Intervals: t over seeds, bootstrap over questions."""

    resamples: int = key("of the bootstrap", COUNT)
    confidence: float = key("of every interval", CONFIDENCE)
    seed: int = key("of the bootstrap", NOT_NEGATIVE)


@dataclass(frozen=True)
class MoreSeeds:
    """`snakemake more_seeds`: seeds added until the interval of a claim has a stated width (docs/claims.md)."""

    claim: str = key("its name in docs/claims.md", NAME)
    half_width: float = key("of its interval: in pp, or for a ratio a factor above 1", POSITIVE)
    next_seed: int = key("the first seed that is added; the others follow it", NOT_NEGATIVE)
    most_seeds: int = key("in all, the scale's own included", COUNT)


@dataclass(frozen=True)
class PageSettings:
    """Answers that a reader finds on the page: of every method and evaluated update, a file a question."""

    seeds: int = key("of how many seeds, from the first", COUNT)
    answers_per_question: int = key("of each policy, from the first", COUNT)
