"""Sample a policy on benchmarks: resumable shard by shard, immutable once written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from transformers import AutoConfig

from prerl.config.key import from_dict
from prerl.config.prompt import PromptSettings
from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.core.constants import SHARD_ROWS
from prerl.core.files import read_problems, read_table, write_parquet
from prerl.core.hashes import sha256_of
from prerl.evaluation.workers import run_on_workers, worker_environments
from prerl.models.checkpoints import MANIFEST, load_model, verify
from prerl.models.packing import pack_rows
from prerl.models.prompts import check_lengths, encode_prompts, end_token_ids, load_tokenizer
from prerl.rollouts.engines import build_sampler
from prerl.rollouts.interface import sample_seed

SAMPLE_SCHEMA = pa.schema(
    [
        ("update", pa.int32()),
        ("benchmark", pa.string()),
        ("question", pa.string()),
        ("sample", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
    ]
)


class Policy:
    """A checkpoint ready to sample: verified folder, tokenizer, sampler. vLLM loads the weights itself."""

    def __init__(
        self, folder: Path, engine: EngineSettings, prompt: PromptSettings, sampling: SamplingSettings
    ) -> None:
        self.folder, self.prompt, self.sampling = folder, prompt, sampling
        self.tokenizer = load_tokenizer(folder)
        model = None if engine.name == "vllm" else load_model(folder)
        if model is not None:
            pack_rows(model)  # for its attention, which copies no keys and values while decoding
        config = AutoConfig.from_pretrained(folder, local_files_only=True) if model is None else model.config
        check_lengths(self.tokenizer, config.max_position_embeddings, prompt, sampling.max_new_tokens)
        self.sampler = build_sampler(
            engine,
            model,
            folder,
            end_token_ids(folder, self.tokenizer),
            sampling,
            prompt.max_prompt_tokens + sampling.max_new_tokens,
        )

    def load(self, folder: Path) -> None:
        """Switch to another checkpoint of the same model."""
        self.folder = folder
        self.sampler.load(folder)

    def samples(
        self,
        questions: dict[str, list[str]],
        *,
        benchmark: str,
        update: int,
        purpose: str,
        seed: int,
        samples: int,
    ) -> pa.Table:
        """`samples` responses to each question (columns id, problem of `questions`), as rows of SAMPLE_SCHEMA."""
        seeds = [
            [sample_seed(seed, purpose, benchmark, update, question, i) for i in range(samples)]
            for question in questions["id"]
        ]
        prompts = encode_prompts(self.tokenizer, questions["problem"], self.prompt)
        rollouts = self.sampler.generate(prompts, seeds, self.sampling)
        texts = self.tokenizer.batch_decode([r.token_ids for r in rollouts], skip_special_tokens=True)
        keys = [(question, i) for question in questions["id"] for i in range(samples)]
        rows = [
            {
                "update": update,
                "benchmark": benchmark,
                "question": question,
                "sample": i,
                "token_ids": rollout.token_ids,
                "logprobs": rollout.logprobs,
                "text": text,
                "finish_reason": rollout.finish_reason,
            }
            for (question, i), rollout, text in zip(keys, rollouts, texts, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)


@dataclass(frozen=True)
class Shard:
    """`questions` questions of the problem file `file` from row `first` on, for the policy in `folder`; the samples are
    kept at `path`."""

    folder: Path
    update: int
    file: Path
    first: int
    questions: int
    path: Path


class ShardWriter:
    """Samples and writes shards one by one. The engine stays; its weights are replaced when the policy changes."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.policy: Policy | None = None

    def __call__(self, shard: Shard) -> None:
        """Sample and write."""
        s = self.settings
        if self.policy is None:
            engine, prompt = EngineSettings(**s["engine"]), from_dict(PromptSettings, s["prompt"])
            self.policy = Policy(shard.folder, engine, prompt, SamplingSettings(**s["sampling"]))
        elif self.policy.folder != shard.folder:
            self.policy.load(shard.folder)
        samples = self.policy.samples(
            read_problems(shard.file).slice(shard.first, shard.questions).to_pydict(),
            benchmark=shard.file.stem,
            update=shard.update,
            purpose="evaluation",
            seed=s["seed"],
            samples=s["samples_per_question"],
        )
        write_parquet(shard.path, samples)


def plan_shards(policies: dict[int, Path], question_files: list[Path], state: Path, settings: dict) -> list[Shard]:
    """The shards of every policy (update: manifest) on every benchmark (a file's stem names it), in this order.

    A shard's file name is a hash of what determines it (policy, questions, settings), so an interrupted job resumes
    and a new benchmark leaves the other samples as they are.
    """
    common = {key: settings[key] for key in ("seed", "samples_per_question", "prompt", "sampling")}
    common["engine"] = settings["engine"]["name"]
    step = max(1, SHARD_ROWS[common["engine"]] // settings["samples_per_question"])
    shards = []
    for update, manifest in policies.items():
        for file in question_files:
            key = json.dumps([common, update, sha256_of(manifest), sha256_of(file), step], sort_keys=True)
            stem = f"{file.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            shards += [
                Shard(manifest.parent, update, file, first, step, state / f"{stem}-{first:06d}.parquet")
                for first in range(0, len(read_problems(file)), step)
            ]
    return shards


def generate_sharded(
    policies: dict[int, Path], question_files: list[Path], state: Path, settings: dict, processes: int | None = None
) -> pa.Table:
    """Samples of every policy on every benchmark, shard by shard over the GPUs (or `processes`), kept under `state`.

    settings: JSON of rule generate_samples. Raises CheckpointError if a policy is damaged, and
    what a worker raises.
    """
    state.mkdir(parents=True, exist_ok=True)
    shards = plan_shards(policies, question_files, state, settings)
    pending = [shard for shard in shards if not shard.path.is_file()]
    for folder in dict.fromkeys(shard.folder for shard in pending):
        verify(folder / MANIFEST)
    run_on_workers(pending, ShardWriter(settings), worker_environments(processes))
    return pa.concat_tables([read_table(shard.path) for shard in shards])
