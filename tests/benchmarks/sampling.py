"""Tokens a second of the embedded sampler, of transformers' `generate` with a static cache, and of vLLM's CPU build.

The same weights, prompts and numbers of tokens. vLLM runs in .venv-vllm as a process of its own (vllm_side.py) that
waits while the others run. It knows no heads of 24, so all three sample from a miniature of 3 heads of 32: the same
width and number of parameters.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

import torch
from transformers import GenerationConfig

import harness
from prerl.config.prompt import PromptSettings
from prerl.config.rollouts import SamplingSettings
from prerl.data.corpus import problem_set, random_problem
from prerl.data.miniature import build_model, build_tokenizer, save_model
from prerl.models.prompts import encode_prompts
from prerl.rollouts.interface import sample_seed
from prerl.rollouts.transformers_sampler import TransformersSampler

PROMPTS, SAMPLES = 32, 8
NEW_TOKENS = (64, 90)
NO_EOS = 1000  # beyond the vocabulary: every response has all its tokens
VLLM_LOG = harness.RESULTS / "vllm.log"
VLLM_PYTHON = harness.ROOT / ".venv-vllm/bin/python"
VLLM_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


class VllmSide:
    """A child that holds a vLLM engine and samples once for each line it is sent."""

    def __init__(self, model: Path, prompts: list[list[int]]) -> None:
        harness.RESULTS.mkdir(parents=True, exist_ok=True)
        with VLLM_LOG.open("w") as log:
            self.child = subprocess.Popen(
                [VLLM_PYTHON, Path(__file__).with_name("vllm_side.py"), model, json.dumps(prompts), str(SAMPLES)],
                env=os.environ | VLLM_ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.answer("ready")

    def answer(self, expected: str) -> None:
        """Wait for the child's line; vLLM's own lines are passed over. RuntimeError where the child has ended."""
        for line in self.child.stdout:
            if line.strip() == expected:
                return
        raise RuntimeError(f"vllm_side.py ended with code {self.child.wait()}: {VLLM_LOG} says why")

    def sample(self, new_tokens: int) -> None:
        """One batch of PROMPTS x SAMPLES responses; the child checks the number of tokens."""
        self.child.stdin.write(f"{new_tokens}\n")
        self.child.stdin.flush()
        self.answer(f"sampled {PROMPTS * SAMPLES * new_tokens}")

    def close(self) -> None:
        """End the child."""
        self.child.stdin.close()
        self.child.wait()


def transformers_side(model, prompts: list[list[int]], new_tokens: int) -> None:
    """`generate` with a static cache; left-padded prompts, each repeated SAMPLES times."""
    width = max(map(len, prompts))
    rows = [prompt for prompt in prompts for _ in range(SAMPLES)]
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        max_new_tokens=new_tokens,
        cache_implementation="static",
        disable_compile=True,
        eos_token_id=NO_EOS,
        pad_token_id=0,
    )
    ids_BT = model.generate(
        torch.tensor([[0] * (width - len(row)) + row for row in rows]),
        attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        generation_config=config,
    )
    assert ids_BT.shape == (len(rows), width + new_tokens)


def main() -> None:
    repeats = 3 if harness.quick(__doc__.splitlines()[0]) else 9
    harness.one_thread()
    tokenizer = build_tokenizer()
    model = build_model(harness.architecture(num_attention_heads=3, num_key_value_heads=3, head_dim=32), tokenizer, 0)
    model.eval()
    problems = problem_set(random.Random(0), random_problem, [2, 3, 4], PROMPTS, held_out=False)
    texts = [problem.text for problem in problems]
    prompts = encode_prompts(tokenizer, texts, PromptSettings(**harness.miniature()["prompt"]))
    seeds = [[sample_seed(1, "benchmark", prompt, i) for i in range(SAMPLES)] for prompt in range(PROMPTS)]
    sampler = TransformersSampler(model, [NO_EOS])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, tokenizer, Path(folder))
        vllm = VllmSide(Path(folder), prompts)
        for new_tokens in NEW_TOKENS:
            settings = SamplingSettings(1.0, 1.0, new_tokens, PROMPTS * SAMPLES)
            sides = {
                "ours": lambda settings=settings: sampler.generate(prompts, seeds, settings),
                "transformers": lambda n=new_tokens: transformers_side(model, prompts, n),
                "vLLM": lambda n=new_tokens: vllm.sample(n),
            }
            assert all(len(rollout.token_ids) == new_tokens for rollout in sides["ours"]())
            times = harness.in_turn(sides, repeats)
            for name, own in times.items():
                speed = [PROMPTS * SAMPLES * new_tokens / t for t in own]
                ratio = harness.spread(harness.ratios(own, times["ours"]))
                rows.append([str(new_tokens), name, f"{statistics.median(own):.2f}", harness.spread(speed, 0), ratio])
        vllm.close()
    harness.report(
        __file__,
        "Sampling: tokens a second of three engines",
        f"One thread each, {PROMPTS} prompts × {SAMPLES} samples, temperature 1, log-probs kept by ours and vLLM, "
        f"{repeats} repeats in turn, median (min to max).",
        harness.table(["new tokens", "engine", "seconds", "tokens/s", "time ÷ ours"], rows),
    )


if __name__ == "__main__":
    main()
