"""Samples of a policy on benchmarks: resumable by shard, immutable once written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
from transformers import AutoConfig

from prerl.checkpoints import load_model, sha256_of, verify
from prerl.files import read_problems, read_table, write_parquet
from prerl.prompts import PromptSettings, check_lengths, encode_prompts, end_token_ids, load_tokenizer
from prerl.samplers import EngineSettings, SamplingSettings, build_sampler, sample_seed

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
        self, manifest: Path, engine: EngineSettings, prompt: PromptSettings, sampling: SamplingSettings
    ) -> None:
        folder = verify(manifest)
        self.prompt, self.sampling = prompt, sampling
        self.tokenizer = load_tokenizer(folder)
        model = None if engine.name == "vllm" else load_model(folder)
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


def generate_sharded(
    manifest: Path, update: int, question_files: list[Path], state: Path, settings: dict, shard_rows: int = 4096
) -> pa.Table:
    """Samples of one policy on every benchmark (a file's stem names it), kept shard by shard under `state`.

    A shard is named by all that decides it (policy, questions, settings), so an interrupted job goes on where it was
    and a new benchmark leaves the others' samples as they are. settings: JSON of rule generate_samples.
    """
    engine = EngineSettings(**settings["engine"])
    prompt, sampling = PromptSettings(**settings["prompt"]), SamplingSettings(**settings["sampling"])
    state.mkdir(parents=True, exist_ok=True)
    policy: Policy | None = None
    tables = []
    for file in question_files:
        table = read_problems(file)
        step = max(1, shard_rows // settings["samples"])
        common = {key: settings[key] for key in ("seed", "samples", "prompt", "sampling")} | {"engine": engine.name}
        key = json.dumps([common, update, sha256_of(manifest), sha256_of(file), step], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        for start in range(0, len(table), step):
            shard = state / f"{file.stem}-{digest}-{start:06d}.parquet"
            if not shard.is_file():
                policy = policy or Policy(manifest, engine, prompt, sampling)
                rows = policy.samples(
                    table.slice(start, step).to_pydict(),
                    benchmark=file.stem,
                    update=update,
                    purpose="evaluation",
                    seed=settings["seed"],
                    samples=settings["samples"],
                )
                write_parquet(shard, rows)
            tables.append(read_table(shard))
    return pa.concat_tables(tables)
