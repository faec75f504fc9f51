"""Training jobs in seconds: a tiny policy fitted until groups are mixed, problems, settings, runs to compare."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from prerl.config.prompt import PromptSettings
from prerl.core.files import write_parquet
from prerl.core.hashes import sha256_of
from prerl.data.miniature import save_model
from prerl.models.checkpoints import new_folder
from prerl.models.logprobs import response_logprobs
from prerl.models.prompts import encode_prompts
from prerl.training.settings import TrainSettings
from prerl.training.trainer import Trainer
from tiny import PREFIX, TOKENIZER, tiny_model

PROMPT = {"system": None, "enable_thinking": False, "prefix_token": "<|im_start|>", "max_prompt_tokens": 64}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 10, "batch_rows": 64}
POSTTRAIN_ALL = {"space": "posttrain", "samples": "all", "advantage_std": True}
PRETRAIN_NEGATIVE = {"space": "pretrain", "samples": "negative", "advantage_std": False}


def make_base(folder: Path, updates: int = 120) -> Path:
    r"""A policy that writes up to nine digits, then \boxed{1}, {2} or {3} at random; its manifest.

    A third of its finished answers is right, so most groups of four are mixed; some are longer than SAMPLING allows.
    """
    rng = random.Random(0)
    model = tiny_model(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    for _ in range(updates):
        problems = [f"{rng.randrange(10)}+{rng.randrange(10)}" for _ in range(24)]
        contexts = encode_prompts(TOKENIZER, problems, PromptSettings(**PROMPT))
        contexts = [context if rng.random() < 0.7 else [PREFIX] for context in contexts]
        texts = ["7" * rng.randrange(10) + f"\\boxed{{{rng.randrange(1, 4)}}}<|im_end|>" for _ in problems]
        responses = [TOKENIZER.encode(text, add_special_tokens=False) for text in texts]
        optimizer.zero_grad()
        (-response_logprobs(model, contexts, responses).mean()).backward()
        optimizer.step()
    with new_folder(folder, 1 << 20) as temporary:
        save_model(model, TOKENIZER, temporary)
    return folder / "manifest.json"


def make_problems(path: Path, count: int, answers: str = "123") -> Path:
    """`count` different problems whose answers are drawn from `answers`."""
    texts = [f"{i % 10}+{i // 10 % 10}" for i in range(count)]
    columns = {"id": [f"{path.stem}-{i}" for i in range(count)], "problem": texts}
    columns |= {"answer": [answers[i % len(answers)] for i in range(count)]}
    columns |= {"level": ["1"] * count, "source": ["test"] * count}
    write_parquet(path, pa.table(columns))
    return path


def job(phase: dict | None = None, training: dict | None = None, validation: dict | None = None, **changes) -> dict:
    """Settings of a training job as rule train_policy gives them."""
    return {
        "seed": 11,
        "phase": {"first_update": 1, "last_update": 6, "coefficient": 1.0, "eos_in_mask": True, "optimizer": "fresh"}
        | POSTTRAIN_ALL
        | (phase or {}),
        "kept_updates": [6],
        "optimizer_updates": [6],
        "prompt": PROMPT,
        "engine": {"name": "transformers"},
        "sampling": SAMPLING,
        "samples_per_prompt": 4,
        "training": {
            "prompts_per_update": 4,
            "learning_rate": 1e-3,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 0.01,
            "grad_clip": 1.0,
            "clip_low": 0.2,
            "clip_high": 0.2,
            "token_mean": {"mode": "global"},
            "checkpoint_every": 3,
            "keep_checkpoints": True,
            "max_gap_nats": 0.01,
            "measured_samples_per_prompt": 2,
            "micro_batch_tokens": 64,
            "precision": "float32",
            "activation_checkpointing": False,
            "pack_rows": False,
        }
        | (training or {}),
        "validation": {"updates": [0, 6], "samples_per_question": 1, "sampling": SAMPLING} | (validation or {}),
    } | changes


class Workshop:
    """A base policy and problem files shared by the tests, and a folder a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = make_base(folder / "base")
        self.train = make_problems(folder / "train.parquet", 18)
        self.validation = [make_problems(folder / "easy.parquet", 3), make_problems(folder / "hard.parquet", 2)]
        self.code = folder / "code.py"
        self.code.write_text("one = 1\n")

    def trainer(self, name: str, settings: dict, **changes) -> Trainer:
        """A trainer of the run `name`: its state is kept between calls."""
        arguments = {
            "start": self.base,
            "train": self.train,
            "validation": self.validation,
            "state": self.folder / name / "state",
            "code": [self.code],
        }
        return Trainer(TrainSettings.from_json(json.dumps(settings)), **arguments | changes)

    def run(self, name: str, settings: dict, **changes) -> Path:
        """Train to the end; the output folder."""
        output = self.folder / name / "output"
        self.trainer(name, settings, **changes).run(output)
        return output

    def killed(self, name: str, settings: dict, update: int, **changes) -> None:
        """Train and be killed just before `update`: nothing tidies up, nothing is published."""
        trainer = self.trainer(name, settings, **changes)
        step = trainer.step

        def dying(number: int) -> dict:
            if number == update:
                raise Killed
            return step(number)

        trainer.step = dying
        output = self.folder / name / "output"
        with contextlib.suppress(Killed):
            trainer.run(output)
            raise AssertionError(f"the run ended before update {update}")
        assert not output.exists()


class Killed(Exception):
    """In place of SIGKILL."""


def metrics(output: Path) -> list[dict]:
    """Rows of metrics.parquet without the seconds."""
    rows = pq.read_table(output / "metrics.parquet").to_pylist()
    return [{name: value for name, value in row.items() if not name.startswith("seconds_")} for row in rows]


def tensors(output: Path, update: int = 6) -> dict[str, str]:
    """sha256 of the weights and of the AdamW moments of a published checkpoint: equal only where bitwise equal."""
    folder = output / "checkpoints" / f"update{update:06d}"
    return {name: sha256_of(folder / name) for name in ("model.safetensors", "optimizer.safetensors")}


def next_ids(trainer: Trainer, update: int) -> list[list[int]]:
    """Token ids that the trainer would sample at `update`."""
    captured = []
    own = copy.copy(trainer)
    own._train = lambda graded, update: captured.extend(r.token_ids for r in graded.rollouts) or {}
    own.step(update)
    return captured
