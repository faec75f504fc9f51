"""The study of test_real_text.py: a fitted Qwen3 with the full vocabulary and the scripts in the order of the rules.

Scripts that run a model take the Python that has the engine, all others this one.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from prerl.config.prompt import PromptSettings
from prerl.data.problems import ProblemSet, read_source
from prerl.models.batching import pack_micro_batches
from prerl.models.checkpoints import seal
from prerl.models.logprobs import response_hidden
from prerl.models.prompts import encode_prompts, load_tokenizer

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
AMC23, MATH, TOKENIZER = DATA / "amc2023_20times.parquet", DATA / "math_train.parquet", DATA / "qwen_tokenizer"
VLLM_PYTHON = ROOT / ".venv-vllm/bin/python"

SEED = 5
VOCABULARY = 151_936  # of Qwen3; the tokenizer names 151,669 of them
CODE = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "workflow_scripts/prerl").rglob("*.py"))
PROMPT = {
    "system": "Please reason step by step, and put your final answer within \\boxed{}.",
    "enable_thinking": False,
    "prefix_token": "<|im_start|>",
    "max_prompt_tokens": 1024,
}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 24, "batch_rows": 128}
ENGINES = {"transformers": {"name": "transformers"}, "vllm": {"name": "vllm", "kv_cache_gib": 0.25}}
MATH_PROBLEMS = 16
PROMPTS, SAMPLES, EVALUATION_SAMPLES = 16, 8, 2
TRAINING = {
    "prompts_per_update": PROMPTS,
    "learning_rate": 1e-4,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "grad_clip": 1.0,
    "clip_low": 0.2,
    "clip_high": 0.2,
    "checkpoint_every": 1,
    "keep_checkpoints": True,
    "max_gap_nats": 1e-3,
    "micro_batch_tokens": 4096,
    "measured_samples_per_prompt": 4,
    "precision": "float32",
    "activation_checkpointing": False,
    "pack_rows": False,
}
# the official objective of each space; between them both token means
PHASES = {
    "nsr_prerl": {"space": "pretrain", "samples": "negative", "coefficient": 0.01, "advantage_std": False},
    "dsrl": {"space": "posttrain", "samples": "all", "coefficient": 1.0, "advantage_std": True},
}
TOKEN_MEANS = {
    "nsr_prerl": {"mode": "official", "max_tokens_per_micro_batch": 1024, "ranks": 8},
    "dsrl": {"mode": "global"},
}
UPDATES = {"nsr_prerl": (1, 2), "dsrl": (3, 4)}


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str, check: bool) -> list[int]:
    r"""Ids of "The answer is $\boxed{answer}$.", cut as the tokenizer would not, with EOS; first a check if asked."""
    pieces = [*(["Let me check.\n\n"] if check else []), "The ans", f"wer is $\\boxed{{{answer}}}$."]
    ids = [token for piece in pieces for token in tokenizer.encode(piece, add_special_tokens=False)]
    return [*ids, tokenizer.eos_token_id]


def problems_of_amc23() -> pa.Table:
    """The 40 problems of the file, which holds each of them 20 times."""
    return read_source(AMC23, ProblemSet("amc23", "verl", AMC23.name, 40, PROMPT["system"]))


def problems_of_math() -> pa.Table:
    """The first short problems of MATH train whose answer is a whole number."""
    table = read_source(MATH, ProblemSet("math", "verl", MATH.name, 7500, PROMPT["system"]))
    pairs = zip(table["problem"].to_pylist(), table["answer"].to_pylist(), strict=True)
    rows = [i for i, (problem, answer) in enumerate(pairs) if len(problem) < 150 and answer.isdecimal()]
    return table.take(rows[:MATH_PROBLEMS])


def fit(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], answers: list[str]
) -> None:
    """Teach `model` to answer each prompt with its own or the next problem's answer, checking half of the time.

    Softmax over the tokens of the answers and a sample of the others that stands for all of them (their logits raised
    by the log of the sampling rate): the whole vocabulary would take minutes.
    """
    steps, peak, drawn = 150, 2e-2, 256
    choice = random.Random(SEED)
    known = sorted({token for answer in answers for c in (True, False) for token in answer_ids(tokenizer, answer, c)})
    index = {token: position for position, token in enumerate(known)}
    others = torch.tensor(sorted(set(range(VOCABULARY)) - set(known)))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 10) * (1 - step / steps)
        responses = [
            answer_ids(tokenizer, answers[(i + choice.randrange(2)) % len(answers)], choice.random() < 0.5)
            for i in range(len(prompts))
        ]
        columns = torch.cat([torch.tensor(known), others[torch.randint(len(others), (drawn,))]])
        optimizer.zero_grad()
        for batch in pack_micro_batches([len(prompt) for prompt in prompts], 2048):
            hidden_ND, targets_N = response_hidden(model, [prompts[i] for i in batch], [responses[i] for i in batch])
            logits_NC = hidden_ND @ model.get_output_embeddings().weight[columns].T
            logits_NC[:, len(known) :] += math.log(len(others) / drawn)
            targets_N = torch.tensor([index[token] for token in targets_N.tolist()])
            loss = torch.nn.functional.cross_entropy(logits_NC, targets_N, reduction="sum")
            (loss / sum(map(len, responses))).backward()
        optimizer.step()


def make_base(folder: Path, *problems: pa.Table) -> None:
    """A fitted Qwen3 of two layers, with grouped queries and the full vocabulary, as a sealed transformers folder."""
    tokenizer = load_tokenizer(TOKENIZER)
    torch.manual_seed(SEED)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # vLLM's CPU kernels know no smaller heads
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    texts, answers = ([text for table in problems for text in table[key].to_pylist()] for key in ("problem", "answer"))
    fit(model, tokenizer, encode_prompts(tokenizer, texts, PromptSettings(**PROMPT)), answers)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    seal(folder)


def own_peak_gib() -> float:
    """Peak resident memory of this process, GiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@dataclass(frozen=True)
class Study:
    """The engine, the folder, and of each process (name, seconds, peak resident GiB)."""

    engine: str
    folder: Path
    processes: list[tuple[str, float, float]]

    def script(self, name: str, *arguments: str | Path) -> None:
        """Run workflow_scripts/{name}.py as the rules do; fail with its output if it fails."""
        samples = name in ("train_policy", "generate_samples")
        python = VLLM_PYTHON if samples and self.engine == "vllm" else sys.executable
        command = [python, f"workflow_scripts/{name}.py", *map(str, arguments)]
        start = time.perf_counter()
        log = self.folder / f"{len(self.processes)}_{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=output, stderr=output
            )
            # the peak of this process and its children; at least the parent's, from which it was forked
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{name} ended with {process.returncode}:\n{log.read_text()}"
        self.processes.append((name, time.perf_counter() - start, usage.ru_maxrss / 2**20))

    def train(self, method: str, start: Path) -> None:
        """Train one phase, a checkpoint with moments kept at each update."""
        first, last = UPDATES[method]
        settings = {
            "seed": SEED,
            "phase": {
                **PHASES[method],
                "first_update": first,
                "last_update": last,
                "eos_in_mask": True,
                "optimizer": "keep",
            },
            "kept_updates": [first, last],
            "optimizer_updates": [first, last],
            "prompt": PROMPT,
            "engine": ENGINES[self.engine],
            "sampling": SAMPLING,
            "samples_per_prompt": SAMPLES,
            "training": {**TRAINING, "token_mean": TOKEN_MEANS[method]},
            "validation": {"updates": [0, 2, 4], "samples_per_question": 1, "sampling": SAMPLING},
        }
        data = self.folder / "data"
        self.script(
            "train_policy",
            *("--settings", json.dumps(settings), "--code", "workflow_scripts/train_policy.py", *CODE),
            *("--start", start, "--train", data / "train.parquet", "--validation", data / "amc23.parquet"),
            *("--state", self.folder / "state" / method, "--output", self.folder / method),
        )

    def evaluate(self) -> None:
        """Sample, grade, count and aggregate the two checkpoints of dsrl."""
        updates, folder, questions = list(UPDATES["dsrl"]), self.folder / "dsrl", self.folder / "data/amc23.parquet"
        settings = {
            "seed": SEED,
            "updates": updates,
            "samples_per_question": EVALUATION_SAMPLES,
            "engine": ENGINES[self.engine],
            "prompt": PROMPT,
            "sampling": SAMPLING,
        }
        samples = folder / "samples.parquet"
        self.script(
            "generate_samples",
            *("--settings", json.dumps(settings), "--policies", *(self.checkpoint(update) for update in updates)),
            *("--questions", questions, "--state", self.folder / "state/samples", "--samples", samples),
            *(("--processes", "2") if self.engine == "vllm" else ()),  # a policy for each
        )
        self.script(
            "grade_samples",
            *("--settings", json.dumps({"time_limit_s": 5.0, "processes": 1}), "--samples", samples),
            *("--questions", questions, "--grades", folder / "grades.parquet"),
        )
        self.script(
            "count_thoughts",
            *("--samples", samples, "--policy", self.folder / "base/manifest.json"),
            *("--thoughts", folder / "thoughts.parquet"),
        )
        self.aggregate(updates)

    def aggregate(self, updates: list[int]) -> None:
        """Scores and curves of dsrl, whose curve begins with nsr_prerl's."""
        paths = {name: str(self.folder / f"dsrl/{name}.parquet") for name in ("grades", "thoughts")}
        settings = {
            "bootstrap": {"resamples": 200, "confidence": 0.95, "seed": 0},
            "main_benchmarks": ["amc23"],
            "benchmarks": ["amc23"],
            "samples_per_question": EVALUATION_SAMPLES,
            "seeds": [SEED],
            "validation_benchmarks": ["amc23"],
            "methods": {
                "nsr_prerl": {"parent": None, "first_update": 1, "last_update": 2},
                "dsrl": {"parent": "nsr_prerl", "first_update": 3, "last_update": 4},
            },
            "parts": {},
            "evaluations": [{"method": "dsrl", "seed": SEED, "updates": updates, **paths}],
            "histories": [
                {"method": method, "seed": SEED}
                | {name: str(self.folder / f"{method}/{name}.parquet") for name in ("metrics", "validation")}
                for method in UPDATES
            ],
        }
        names = ("questions", "scores", "contrasts", "curves")
        outputs = [(f"--{name}", self.folder / f"{name}.parquet") for name in names]
        self.script("aggregate_scores", "--settings", json.dumps(settings), *(x for pair in outputs for x in pair))

    def draw(self) -> None:
        """The dynamics of dsrl, nsr_prerl's two updates first."""
        methods = {"nsr_prerl": {"parent": None, "first_update": 1, "last_update": 2, "phases": []}}
        methods["dsrl"] = {"parent": "nsr_prerl", "first_update": 3, "last_update": 4, "phases": []}
        settings = {
            "scale": "test",
            "models": ["tiny"],
            "seeds": [SEED],
            "methods": methods,
            "warmup": {"method": "dsrl", "s_values": {}},
            "switch_update": 2,
            "confidence": 0.95,
            "prompts_per_update": PROMPTS,
        }
        outputs = [(f"--{kind}", self.folder / f"figure_dynamics.{kind}") for kind in ("pdf", "png", "csv", "json")]
        arguments = ["--settings", json.dumps(settings), "--curves", self.folder / "curves.parquet"]
        self.script("figure_dynamics", *arguments, *(x for pair in outputs for x in pair))

    def checkpoint(self, update: int) -> Path:
        """Manifest of the policy after an update of the chain; 0 is the base."""
        if update == 0:
            return self.folder / "base/manifest.json"
        method = next(name for name, (first, last) in UPDATES.items() if first <= update <= last)
        return self.folder / method / f"checkpoints/update{update:06d}/manifest.json"

    def metrics(self) -> list[dict]:
        """One row of metrics an update, both phases."""
        return [row for method in UPDATES for row in self.table(f"{method}/metrics.parquet")]

    def table(self, name: str) -> list[dict]:
        """Rows of a result file."""
        return pq.read_table(self.folder / name).to_pylist()
