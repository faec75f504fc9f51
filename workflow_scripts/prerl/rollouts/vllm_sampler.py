"""Rollouts by vLLM inside the trainer's process, one engine a rank, each on its rank's GPU (or the CPU).

The trainer's weights are copied into the engine after each update. Between rollouts the engine sleeps: its key-value
cache is freed and its weights move to host memory (vLLM's sleep level 1), so training has the GPU to
itself. Level 2 would drop the weights as well, but a validation and the next rollouts follow each other without an
update in between. vLLM's CPU build takes the same calls and keeps its memory.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.core.errors import UserError
from prerl.models.sharding import full_parameters
from prerl.rollouts.interface import Rollout, check_requests

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine is in this process: weights are handed over as tensors
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the trainer's threads stay as the job has them
    "VLLM_NO_USAGE_STATS": "1",
}
SEED_MASK = (1 << 63) - 1
"""vLLM holds seeds as signed 64-bit numbers; ours are unsigned."""


def import_vllm():
    """The vllm package, its environment set first. Raises UserError if it is not installed."""
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it warns of each thing below that is meant so
    if not torch.cuda.is_available():
        torch._dynamo.config.disable = True  # the CPU build would compile small functions with a C++ compiler
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise UserError(
            f"rollouts.engine: vllm needs the package vllm, which {sys.prefix} does not have: run with the jobs' own "
            "environments (`snakemake --sdm conda …` or `--profile slurm`), install vllm there, or set "
            "`engine: transformers` in the scale's file"
        ) from None
    return vllm


def folder_weights(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of a transformers folder's weights, and of no other file in it."""
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    names = json.loads(index.read_bytes())["weight_map"].values() if index.is_file() else [SAFE_WEIGHTS_NAME]
    for name in dict.fromkeys(names):
        with safe_open(folder / name, "pt") as file:
            for key in file.keys():  # noqa: SIM118  no mapping
                yield key, file.get_tensor(key)


def _pack_head(model: torch.nn.Module) -> None:
    """Let vLLM prepare the output layer anew; Gemma's is the embedding itself."""
    head = model.lm_head if hasattr(model, "lm_head") else model.model.embed_tokens
    head.quant_method.process_weights_after_loading(head)


class VllmSampler:
    """One vLLM engine without tensor parallelism; see `prerl.rollouts.engines.build_sampler` for the arguments.

    Each sample is a request with a seed; those of a prompt share its prefix in the cache. The same
    seed gives the same random numbers whatever else is sampled, and so the same tokens as long as rounding, which
    depends on the batch, decides none. Under torchrun all ranks must build their engine and call sync_weights alike;
    generate is a matter of each rank alone, with any number of prompts.
    """

    def __init__(
        self,
        engine: EngineSettings,
        model: PreTrainedModel | None,
        folder: Path,
        end_ids: list[int],
        sampling: SamplingSettings,
        context_tokens: int,
    ) -> None:
        vllm = import_vllm()
        assert engine.kv_cache_gib is not None, "config/checks.py refuses vllm without it"
        gpu = torch.cuda.is_available()
        self.dtype = torch.bfloat16 if gpu else torch.float32
        self.end_ids = end_ids
        self.temperature = sampling.temperature
        self.colocated = model is not None
        self.engine = vllm.LLM(
            str(folder),
            load_format="dummy",  # weights come below; vLLM would take a checkpoint's moments for weights
            skip_tokenizer_init=True,  # token ids in, token ids out
            generation_config="vllm",  # no default temperature or top_k of the model
            dtype=self.dtype,
            max_model_len=context_tokens,
            max_num_seqs=sampling.batch_rows,
            kv_cache_memory_bytes=int(engine.kv_cache_gib * 2**30),
            gpu_memory_utilization=0.01,  # ignored with kv_cache_memory_bytes, but checked at the start
            enforce_eager=not gpu,
            enable_prefix_caching=True,
            # the CPU build fails on a seeded request whose prompt it computes in parts
            enable_chunked_prefill=gpu,
            max_num_batched_tokens=None if gpu else max(4096, context_tokens),
            enable_sleep_mode=gpu and self.colocated,
            # raw: of the model's logits, whatever top_p; processed: after temperature and top_p
            logprobs_mode="raw_logprobs" if self.temperature == 1.0 else "processed_logprobs",
            distributed_executor_backend="external_launcher" if "LOCAL_RANK" in os.environ else None,
            seed=0,
        )
        self.awake = {"weights", "kv_cache"}
        if model is None:
            self.load(folder)
        else:
            self.sync_weights(model)
            self._sleep()

    def _wake(self, *parts: str) -> None:
        missing = [part for part in parts if part not in self.awake]
        if missing:
            self.engine.wake_up(missing)
            self.awake.update(missing)

    def _sleep(self) -> None:
        if self.colocated:
            self.engine.sleep(level=1)
            self.awake.clear()

    def sync_weights(self, model: PreTrainedModel) -> None:
        """Copy the trainer's weights into the engine's, in place, one parameter after the other.

        Of sharded parameters (FSDP2) every rank gathers the whole, so all ranks must call this.
        """
        self._take((name, weight.to(self.dtype)) for name, weight in full_parameters(model))

    def load(self, folder: Path) -> None:
        """Take the weights of a checkpoint of the model."""
        self._take(folder_weights(folder))

    def _take(self, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
        self._wake("weights")
        self.engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        # what vLLM derives from weights: the CPU build's packed head (stale where embeddings are tied), and the cache
        self.engine.apply_model(_pack_head)
        self.engine.reset_prefix_cache()

    def generate(self, prompts: list[list[int]], seeds: list[list[int]], settings: SamplingSettings) -> list[Rollout]:
        """See `Sampler.generate`. Raises ValueError as the other engine does, and on another temperature than built for
        or one other than 1 together with top_p: vLLM gives no log-probs of that distribution untruncated."""
        from vllm import SamplingParams

        check_requests(prompts, seeds)
        if settings.temperature != self.temperature or (settings.temperature != 1.0 and settings.top_p != 1.0):
            raise ValueError(f"vLLM's log-probs do not fit {settings}: one of temperature and top_p must be 1")
        if not prompts:
            return []
        self._wake("weights", "kv_cache")
        outputs = self.engine.generate(
            [
                {"prompt_token_ids": prompt}
                for prompt, prompt_seeds in zip(prompts, seeds, strict=True)
                for _ in prompt_seeds
            ],
            [
                SamplingParams(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=settings.max_new_tokens,
                    seed=seed & SEED_MASK,
                    stop_token_ids=self.end_ids,
                    logprobs=0,  # of the sampled token alone
                    flat_logprobs=True,
                    detokenize=False,
                )
                for prompt_seeds in seeds
                for seed in prompt_seeds
            ],
            use_tqdm=False,
        )
        self._sleep()
        return [
            Rollout(list(answer.token_ids), list(answer.logprobs.logprobs), answer.finish_reason)
            for output in outputs
            for answer in output.outputs
        ]
