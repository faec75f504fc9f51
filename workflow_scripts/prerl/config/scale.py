"""The whole configuration: config.yaml's keys and those of a scale."""

from __future__ import annotations

from dataclasses import dataclass

from prerl.config.base_models import MODEL_NAME, Model
from prerl.config.evaluation import (
    AlignmentSettings,
    Evaluation,
    GradingSettings,
    MoreSeeds,
    OodSettings,
    PageSettings,
    StatisticsSettings,
    Validation,
    WarmupSweep,
)
from prerl.config.functions import RewardSettings, ThoughtSettings
from prerl.config.hardware import RULES, Hardware, JobResources
from prerl.config.key import NAME, NOT_NEGATIVE, TEXT, key
from prerl.config.phases import Control, MethodEntry
from prerl.config.problems import DataSettings
from prerl.config.prompt import PromptSettings
from prerl.config.rollouts import RolloutSettings
from prerl.config.training import CriticSettings, ObjectiveSettings, TrainingSettings


@dataclass(frozen=True)
class Scale:
    """A scale: scales/{name}.yaml on top of `common`, or of another scale with `inherits: NAME`."""

    reading: str | None = key("how to read this scale's numbers, below each table and at the end", TEXT, optional=True)
    verdicts: bool = key("false: values without verdicts, where a run is too small to judge a claim by")
    seeds: list[int] = key("training seeds, each a separate run", NOT_NEGATIVE, unique=True)
    methods: dict[str, MethodEntry | None] | None = key(
        "this scale's changes of `methods`; null leaves a method out", names=NAME, optional=True, may_be_empty=True
    )
    models: dict[str, Model] = key("name -> base model", names=MODEL_NAME)
    prompt: PromptSettings = key("how a problem becomes a prompt")
    data: DataSettings = key("problems")
    rollouts: RolloutSettings = key("sampling")
    reward: RewardSettings = key("what an answer earns")
    thoughts: ThoughtSettings = key("which thoughts are counted")
    training: TrainingSettings = key("the update and the length of a run")
    objective: ObjectiveSettings = key("the loss of each space")
    critic: CriticSettings = key("PPO's critic")
    warmup_sweep: WarmupSweep = key("lengths of the warm-up")
    validation: Validation = key("accuracy during training")
    evaluation: Evaluation = key("answers of trained policies")
    ood: OodSettings = key("out-of-distribution tasks")
    controls: dict[str, Control] | None = key("name -> control, for the target `controls`", names=NAME, optional=True)
    alignment: AlignmentSettings = key("gradient alignment")
    grading: GradingSettings = key("the second grader")
    statistics: StatisticsSettings = key("intervals")
    more_seeds: MoreSeeds = key("seeds for a narrower interval")
    page: PageSettings = key("answers on the page")
    hardware: Hardware = key("the GPU")
    resources: dict[str, JobResources] = key("rule -> what its jobs request", names=RULES, may_be_empty=True)


@dataclass(frozen=True)
class Config:
    """config.yaml; `scales` holds the files in scales/ and those of --configfile."""

    scale: str = key("name of the scale to run; `--config` may set it")
    external: str | None = key(
        "answers of others, for the target `compare_external`; `--config` may set it too",
        TEXT,
        optional=True,
    )
    against: str | None = key(
        "folder of a reference, for the target `verify`; `--config` may set it too, and no other key",
        TEXT,
        optional=True,
    )
    methods: dict[str, MethodEntry] = key("name -> method, for all scales", names=NAME)
    common: Scale | None = key("what all scales share; any key of a scale", optional=True)
    scales: dict[str, Scale] = key("name -> scale", names=NAME)
