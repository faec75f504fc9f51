"""Peak memory of a training pass as responses and vocabulary grow, beside the same pass with all logits at once.

Each measurement is a process of its own: build the model and its AdamW moments, note the resident memory, run one
update on two rows, and note the peak. `logits` is what one tensor of rows x length x vocabulary in float32 would take.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import harness

ROWS, PROMPT_TOKENS = 2, 24
MEBI = 1 << 20
CASES = [(128, 151_936), (512, 151_936), (1024, 151_936), (2048, 151_936), (1024, 1_000), (1024, 32_000)]
QUICK_CASES = [(128, 1_000), (128, 32_000)]


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def worker(side: str, length: int, vocabulary: int) -> None:
    """Say the bytes held before the pass and the peak."""
    import torch
    from accelerate import Accelerator
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from official import full_logprobs
    from prerl.training.updates import policy_update

    harness.one_thread()
    torch.manual_seed(0)
    shape = harness.architecture(max_position_embeddings=4096)
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=vocabulary, **shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    ids = torch.randint(10, vocabulary, (ROWS, PROMPT_TOKENS + length)).tolist()
    prompts, responses = [row[:PROMPT_TOKENS] for row in ids], [row[PROMPT_TOKENS:] for row in ids]
    advantages_R = torch.tensor([1.0, -1.0])
    before = resident()
    if side == "ours":
        policy_update(
            model,
            optimizer,
            Accelerator(cpu=True),
            prompts,
            responses,
            advantages_R,
            torch.full((ROWS,), 1.0 / (ROWS * length), dtype=torch.double),
            clip=(0.2, 0.2),
            temperature=1.0,
            micro_batch_tokens=1 << 20,
            grad_clip=1.0,
        )
    else:
        logprobs_N = full_logprobs(model, prompts, responses, 1.0)
        (-logprobs_N * advantages_R.repeat_interleave(length)).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"before": before, "peak": peak}))


def measure(side: str, length: int, vocabulary: int) -> dict[str, float]:
    """MiB before the pass and at its peak, of a fresh process (this one stays small: a child inherits its peak)."""
    command = [sys.executable, __file__, "--worker", side, str(length), str(vocabulary)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {name: value / MEBI for name, value in answer.items()}


def main() -> None:
    cases = QUICK_CASES if harness.quick(__doc__.splitlines()[0]) else CASES
    rows = []
    for length, vocabulary in cases:
        ours, full = measure("ours", length, vocabulary), measure("full logits", length, vocabulary)
        logits = ROWS * (PROMPT_TOKENS + length) * vocabulary * 4 / MEBI
        growth = [side["peak"] - side["before"] for side in (ours, full)]
        rows.append(
            [f"{length:,}", f"{vocabulary:,}", f"{logits:,.0f}", f"{ours['before']:,.0f}"]
            + [f"{ours['peak']:,.0f} (+{growth[0]:,.0f})", f"{full['peak']:,.0f} (+{growth[1]:,.0f})"]
        )
    harness.report(
        __file__,
        "Memory of a training pass",
        f"MiB; two rows in one micro-batch, prompts of {PROMPT_TOKENS} tokens, the miniature's layers. In brackets: "
        "the peak less what the process held before the pass (libraries, weights, gradients, moments).",
        harness.table(
            ["response tokens", "vocabulary", "one logits tensor", "before the pass", "ours, peak", "all logits, peak"],
            rows,
        ),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
