"""GPU-hours, wall time and disk of every job by formula, before anything has run. Pure Python, no torch.

    seconds = start + FLOPs / (peak x utilisation x GPUs) + seconds of decoding

On a GPU a decoding step reads the weights once and every running row's keys and values, at BANDWIDTH_UTILISATION of the
card's bandwidth (machines.py, where the marks of the constants are explained).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prerl.config.checks import questions_of
from prerl.config.hardware import MEASURING, gpus_of
from prerl.config.methods import Method, scheduled_updates
from prerl.config.shapes import Shape, shape_of
from prerl.core.constants import BASE, GIB, LONGEST_SHARING, SHARD_ROWS
from prerl.planning.answers import Answers, answers_of
from prerl.planning.machines import CPU, Machine, gpu_machine
from prerl.planning.memory import cache_gib

PROMPT_SHARE, PROMPT_TOKENS = 0.5, 200  # mean prompt: half the longest allowed, 200 at most. D
COUNTING_SHARE = {"all": 0.79, "negative": 0.38, "positive": 0.32}  # rows in the loss of a generated model. M
LANGUAGE_MODEL_COUNTING_SHARE = {"all": 0.6, "negative": 0.25, "positive": 0.45}
"""Of one that is not generated. D: negative rows are some of the wrong ones, and about four of five answers to MATH are
right before training (Qwen3-4B without thinking); a group that is all right or all wrong does not count."""
TOKEN_BYTES = 10  # D: id, log-prob and text of a sampled token, compressed
# answers a second and process: distinct ones through math-verify (M: docs/benchmarks.md), repeated ones (M)
GRADED_PER_S = {"file": 240, "generated": 3000}
COUNTED_PER_S = 5000  # M: answers of the miniature; D for longer ones
DOWNLOAD_BYTES_PER_S = 1e8  # D
DISK_BYTES_PER_S = 1e9  # D
HOST_BYTES_PER_S = 2e10  # D: between GPU and host memory
DOCUMENT_TOKENS = 60  # of the miniature's corpus. M
SHORT_JOB_S = 4.0  # aggregation, figures, tables, report, data. M; more with the answers, see _short


@dataclass(frozen=True)
class JobCost:
    """What one job costs. gpus: held for all of wall_s, 0 on CPUs.

    disk_gib: what it leaves, its state included, or, negative, removes; running_gib: what it holds only while it runs.
    """

    gpus: int
    wall_s: float
    disk_gib: float
    running_gib: float = 0.0

    @property
    def gpu_hours(self) -> float:
        """GPUs times hours."""
        return self.gpus * self.wall_s / 3600


@dataclass(frozen=True)
class _Job:
    """A job of rule `rule` and what its formula reads."""

    rule: str
    wildcards: Mapping[str, str]
    block: Mapping
    methods: Mapping[str, Method]

    @property
    def shape(self) -> Shape:
        return shape_of(self.block["models"][self.wildcards["model"]])

    @property
    def gpus(self) -> int:
        return gpus_of(self.block, self.rule, self.wildcards["model"], self.critic) if "model" in self.wildcards else 0

    @property
    def critic(self) -> bool:
        """Whether the job trains PPO's critic."""
        return self.rule == "train_policy" and self.methods[self.wildcards["method"]].critic

    @property
    def machine(self) -> Machine:
        card = self.block["hardware"].get("gpu")
        if not self.gpus or not card:
            return CPU
        engine = "vllm" if self.rule == "evaluate_ood" else self.block["rollouts"]["engine"]
        return gpu_machine(card["tflops"], card["bandwidth_tb_s"], engine)

    @property
    def start_s(self) -> float:
        """Until a model is ready: libraries and engine, and on a GPU 8 seconds for each GB of bfloat16 weights (D)."""
        if not self.gpus:
            return self.machine.start_s
        engine_s = 0 if self.rule in MEASURING else self.machine.engine_s
        return self.machine.start_s + engine_s + 16e-9 * self.shape.parameters

    def answers(self, kind: str, longest: int) -> Answers:
        """See planning.answers."""
        return answers_of(self.block, self.wildcards["model"], kind, longest)

    @property
    def prompt_tokens(self) -> float:
        return min(PROMPT_SHARE * self.block["prompt"]["max_prompt_tokens"], PROMPT_TOKENS)

    def cost(self, seconds: float, gib: float = 0.0, running_gib: float = 0.0) -> JobCost:
        return JobCost(self.gpus, seconds, gib, running_gib)

    @property
    def published_gib(self) -> float:
        """Checkpoints of the job's method: float32 weights, and the moments of those that a phase continues from."""
        method = self.methods[self.wildcards["method"]]
        numbers = len(method.kept_updates) + 2 * len(method.optimizer_updates)
        return 4 * self.shape.parameters * numbers / GIB

    @property
    def state_gib(self) -> float:
        """Two checkpoints of the job's method, with moments and critic."""
        critic = self.shape.critic_parameters if self.methods[self.wildcards["method"]].critic else 0
        return 2 * 12 * (self.shape.parameters + critic) / GIB

    @property
    def samples_gib(self) -> float:
        """Answers of the job's method and seed."""
        mean = self.answers("evaluation", self.block["evaluation"]["max_new_tokens"]).mean
        return self.evaluated * mean * TOKEN_BYTES / GIB

    @property
    def evaluated(self) -> int:
        """Answers of the job's method and seed: updates x questions x samples."""
        method = self.wildcards["method"]
        updates = 1 if method == BASE else len(self.methods[method].evaluated_updates)
        asked = (data for data in self.block["data"]["benchmarks"].values() if data["role"] != "alignment")
        questions = sum(map(questions_of, asked))
        return updates * questions * self.block["evaluation"]["samples_per_question"]


def decoding_seconds(machine: Machine, shape: Shape, steps: float, tokens: float, context: float) -> float:
    """Seconds of `steps` decoding steps on one GPU. tokens: sampled in all, from rows of mean length `context`."""
    read = steps * 2 * shape.parameters + tokens * context * shape.key_value_bytes()
    flops = shape.forward_flops(tokens, 0, tokens)
    seconds = flops / machine.sampling + read / machine.bandwidth
    return seconds + steps * machine.step_s + tokens * machine.token_s


def sampling_seconds(
    job: _Job, rows: float, prompts: float, answers: Answers, waits: float = 1, prompt_tokens: float | None = None
) -> float:
    """Seconds to sample `rows` answers to `prompts` prompts (each prefilled once), divided over the job's GPUs.

    On a GPU a finished row makes room for the next (vLLM): each GPU waits `waits` times for the longest answer.
    """
    machine, shape, gpus = job.machine, job.shape, max(job.gpus, 1)
    prompt = prompt_tokens or job.prompt_tokens
    tokens, context = rows * answers.mean, prompt + answers.position
    prefill = shape.forward_flops(prompts * prompt, prompt, prompts) / (machine.sampling * gpus)
    at_once = _rows_at_once(job, context)
    if not job.gpus:
        steps = math.ceil(rows / at_once) * answers.longest
        return prefill + shape.forward_flops(tokens, 2 * context, tokens) / machine.sampling + steps * machine.step_s
    passes = waits * answers.longest + max(rows / gpus / at_once - waits, 0) * answers.mean
    return prefill + decoding_seconds(machine, shape, passes, tokens / gpus, context)


def _rows_at_once(job: _Job, context: float) -> float:
    """Rows that decode together on each GPU (or the CPU): batch_rows, or as many as vLLM's cache holds on average."""
    rollouts = job.block["rollouts"]
    if not job.gpus or rollouts["engine"] != "vllm":
        return rollouts["batch_rows"]
    cache = cache_gib(job.rule, job.wildcards["model"], job.block, job.critic) * GIB
    held = cache / (job.shape.key_value_bytes() * context)
    return max(min(rollouts["batch_rows"], held), 1)


def update_seconds(job: _Job, space: str, samples: str, critic: bool = False) -> float:
    """Seconds of one training update: sampling, measuring both spaces, the pass with gradient, the step."""
    block, shape = job.block, job.shape
    prompts, group = block["training"]["prompts_per_update"], block["rollouts"]["samples_per_prompt"]
    answers = job.answers(samples, block["rollouts"]["max_new_tokens"])
    answer, rows = answers.mean, prompts * group
    seconds = (
        sampling_seconds(job, rows, prompts, answers) + job.machine.update_s + job.machine.sync_s * shape.parameters
    )
    measured = prompts * block["training"]["measured_samples_per_prompt"]
    generated = "generated" in block["models"][job.wildcards["model"]]
    counting = (COUNTING_SHARE if generated else LANGUAGE_MODEL_COUNTING_SHARE)[samples] * rows
    context = 1 if space == "pretrain" else job.prompt_tokens
    prompts_passed = counting  # a packed group shares its prompt unless its answers are long (models/packing.py)
    if block["training"]["pack_rows"] and answer <= LONGEST_SHARING:
        prompts_passed = min(prompts, counting)
    flops = shape.training_flops(
        prompts_passed * context + counting * answer, context + 2 * answers.position, counting * answer
    )
    if critic:  # values of all rows, then a pass with gradient; nearly the policy's size
        flops += flops + shape.forward_flops(rows * (context + answer), context + 2 * answers.position, 0)
    flops *= 4 / 3 if job.gpus else 1  # activation checkpointing runs the forward pass twice
    for measured_context in (job.prompt_tokens, 1):
        tokens, length = measured * (measured_context + answer), measured_context + 2 * answers.position
        flops += shape.forward_flops(tokens, length, measured * answer)
    return seconds + flops / (job.machine.training * max(job.gpus, 1))


def _train_policy(job: _Job) -> JobCost:
    block, method = job.block, job.methods[job.wildcards["method"]]
    phase = method.phases[-1].settings
    critic = job.critic
    updates = method.last_update - method.parent_update
    seconds = job.start_s + updates * update_seconds(job, phase.space, phase.samples, critic)
    questions = sum(questions_of(block["data"]["benchmarks"][name]) for name in block["validation"]["benchmarks"])
    validations = len(scheduled_updates(block["validation"]["schedule"], method))
    rows, longest = questions * block["validation"]["samples_per_question"], block["validation"]["max_new_tokens"]
    seconds += validations * sampling_seconds(job, rows, questions, job.answers("validation", longest))
    saves = updates / block["training"]["checkpoint_every"] + len(method.kept_updates)
    seconds += saves * 12 * job.shape.parameters / DISK_BYTES_PER_S
    # the state holds float32 weights and moments: of every kept update and one more, to which published checkpoints are
    # links; or, where nothing is kept, of the last two beside what is published
    if block["training"]["keep_checkpoints"]:
        return job.cost(seconds, job.state_gib / 2 * (len(method.kept_updates) + 1))
    return job.cost(seconds, job.published_gib + job.state_gib)


def _release_state(job: _Job) -> JobCost:
    return job.cost(0.5, -job.state_gib)


def _release_checkpoints(job: _Job) -> JobCost:
    """Removes what _train_policy published, and the shards of the answers."""
    return job.cost(0.5, -job.published_gib - job.samples_gib)


def _generate_samples(job: _Job) -> JobCost:
    evaluation, rows = job.block["evaluation"], job.evaluated
    answers, samples = job.answers("evaluation", evaluation["max_new_tokens"]), evaluation["samples_per_question"]
    shards = math.ceil(rows / SHARD_ROWS[job.block["rollouts"]["engine"]])
    seconds = sampling_seconds(job, rows, rows / samples, answers, max(shards / max(job.gpus, 1), 1))
    return job.cost(job.start_s + seconds, 2 * job.samples_gib)  # shards of the state, and the whole


def _measure_answers(job: _Job) -> JobCost:
    """A forward pass over the answers that the page shows, without their prompts."""
    evaluation, shown = job.block["evaluation"], job.block["page"]["answers_per_question"]
    answer = job.answers("evaluation", evaluation["max_new_tokens"])
    rows = job.evaluated * min(1.0, shown / evaluation["samples_per_question"])
    flops = job.shape.forward_flops(rows * (1 + answer.mean), 2 * answer.position, rows * answer.mean)
    return job.cost(job.start_s + flops / job.machine.training)


def _evaluate_ood(job: _Job) -> JobCost:
    """One answer to each question of the tasks; the prompt grows with its few-shot examples."""
    ood = job.block["ood"]
    tasks = [task for task in ood["tasks"].values() if ood["run_generated_code"] or not task["runs_code"]]
    if not tasks:
        return job.cost(SHORT_JOB_S)
    rows, answers = sum(task["questions"] for task in tasks), job.answers("ood", ood["generation"]["max_new_tokens"])
    examples = sum(task["questions"] * task["few_shot"] for task in tasks) / rows
    seconds = sampling_seconds(job, rows, rows, answers, prompt_tokens=(1 + examples) * PROMPT_TOKENS)
    return job.cost(job.start_s + seconds, rows * answers.mean * TOKEN_BYTES / GIB)


def _sample_rollouts(job: _Job) -> JobCost:
    aligned = job.block["alignment"]["benchmarks"][job.wildcards["benchmark"]]
    answers = job.answers("all", job.block["alignment"]["max_new_tokens"])
    rows = aligned["questions"] * aligned["rollouts_per_question"]
    seconds = sampling_seconds(job, rows, aligned["questions"], answers)
    return job.cost(job.start_s + seconds, rows * answers.mean * TOKEN_BYTES / GIB)


def _diagnose_base_model(job: _Job) -> JobCost:
    """The questions of four updates, and a quarter as many prompts of one token."""
    answers = job.answers("all", job.block["rollouts"]["max_new_tokens"])
    questions = 4 * job.block["training"]["prompts_per_update"]
    rows = 1.25 * questions * job.block["rollouts"]["samples_per_prompt"]
    return job.cost(job.start_s + sampling_seconds(job, rows, 1.25 * questions, answers))


def _measure_gradient_alignment(job: _Job) -> JobCost:
    """Per rollout two gradients of log P(y), those of the comparisons, two forward passes; in float32, row by row."""
    aligned = job.block["alignment"]["benchmarks"][job.wildcards["benchmark"]]
    rows = aligned["questions"] * aligned["rollouts_per_question"] / aligned["jobs"]
    given = 4 + job.block["alignment"]["other_problems"]  # own, shuffled twice, empty x; the other pair's is at hand
    answer = job.answers("all", job.block["alignment"]["max_new_tokens"]).mean
    with_prompt = job.prompt_tokens + answer
    flops = job.shape.training_flops(2 * answer + given * with_prompt, with_prompt, (2 + given) * answer)
    flops += job.shape.forward_flops(answer + with_prompt, with_prompt, 2 * answer)
    moved = (2 + given) * 4 * job.shape.parameters if job.gpus else 0  # to the host, where they are compared
    seconds = flops / job.machine.float32 + (4 + given) * job.machine.row_s + moved / HOST_BYTES_PER_S
    return job.cost(job.start_s + rows * seconds)


def _pretrain_miniature_model(job: _Job) -> JobCost:
    training = job.block["models"][job.wildcards["model"]]["generated"]["pretraining"]
    tokens = training["updates"] * training["batch_documents"] * DOCUMENT_TOKENS
    flops = job.shape.training_flops(tokens, DOCUMENT_TOKENS, tokens)
    return job.cost(job.start_s + flops / job.machine.training, 4 * job.shape.parameters / GIB)


def _download_model(job: _Job) -> JobCost:
    size = 2 * job.shape.parameters
    return job.cost(size / DOWNLOAD_BYTES_PER_S, size / GIB)


def _reincarnate_policy(job: _Job) -> JobCost:
    return job.cost(12 * job.shape.parameters / DISK_BYTES_PER_S)  # reads the checkpoint to verify it, links its files


def _grade_samples(job: _Job) -> JobCost:
    made_here = any({"generated", "sums"} & set(data) for data in job.block["data"]["benchmarks"].values())
    kind = "generated" if made_here else "file"
    return job.cost(0.5 + job.evaluated / GRADED_PER_S[kind] / job.block["grading"]["processes"])


def _count_thoughts(job: _Job) -> JobCost:
    return job.cost(0.3 + job.evaluated / COUNTED_PER_S)


def _short(job: _Job) -> JobCost:
    """Aggregation, figures and tables: seconds, at other scales in proportion to the bootstrap's work (D)."""
    return job.cost(SHORT_JOB_S * max(1.0, job.block["statistics"]["resamples"] / 2000))


_FORMULAS: dict[str, Callable[[_Job], JobCost]] = {
    "train_policy": _train_policy,
    "generate_samples": _generate_samples,
    "measure_answers": _measure_answers,
    "evaluate_ood": _evaluate_ood,
    "sample_rollouts": _sample_rollouts,
    "diagnose_base_model": _diagnose_base_model,
    "measure_gradient_alignment": _measure_gradient_alignment,
    "pretrain_miniature_model": _pretrain_miniature_model,
    "pretrain_search_model": _pretrain_miniature_model,
    "download_model": _download_model,
    "import_model": _download_model,
    "reincarnate_policy": _reincarnate_policy,
    "release_state": _release_state,
    "release_checkpoints": _release_checkpoints,
    "grade_samples": _grade_samples,
    "count_thoughts": _count_thoughts,
}


def job_cost(rule: str, wildcards: Mapping[str, str], block: Mapping, methods: Mapping[str, Method]) -> JobCost:
    """Cost of one job by its rule's formula; a rule without a formula is a short job without a model.

    wildcards: the job's (model, method, seed …). block: the scale's block of config.yaml as read_config gives it;
    methods: resolve_methods(block).
    """
    return _FORMULAS.get(rule, _short)(_Job(rule, wildcards, block, methods))


def stage_costs(
    jobs: Iterable[tuple[str, Mapping[str, str]]], block: Mapping, methods: Mapping[str, Method]
) -> dict[str, list[JobCost]]:
    """Rule -> cost of each of its jobs. jobs: (rule, wildcards), as a dry run names them."""
    costs: dict[str, list[JobCost]] = {}
    for rule, wildcards in jobs:
        costs.setdefault(rule, []).append(job_cost(rule, wildcards, block, methods))
    return costs
