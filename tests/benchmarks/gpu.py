"""Training passes on one GPU: tokens a second, FLOPs utilisation and peak memory beside plain transformers, and parity.

    python tests/benchmarks/gpu.py                  Qwen3-0.6B, 1.7B and 4B with random weights, on one idle GPU
    python tests/benchmarks/gpu.py --shapes tiny    the same code in seconds on a CPU; its numbers mean nothing

A pass is one policy_update, AdamW's step included: GRPO (prompt and answer) and NSR-PreRL (the prefix token and the
answer), all rows counting. Ours: sharded, packed rows, activation checkpointing, chunked log-softmax, bfloat16 compute.
Plain: transformers under bfloat16 autocast, padded rows, all logits at once, with and without activation checkpointing.
Each measurement is a process of its own; one that runs out of memory is a result. All sides hold float32 weights,
gradients and moments. FLOPs: prerl.config.shapes, what is computed again does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import Qwen3Config, Qwen3ForCausalLM

import harness
from official import full_logprobs
from prerl.config.shapes import Shape, shape_of
from prerl.models.batching import pack_micro_batches
from prerl.models.logprobs import response_logprobs
from prerl.models.packing import pack_rows
from prerl.models.sharding import prepare, start_processes
from prerl.training.updates import policy_update

GIB = 1 << 30
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312}
"""Dense bfloat16 TFLOPs by a part of the card's name (the makers' data sheets, SXM versions)."""
SIDES = ("ours", "plain", "plain, checkpointing")
SPACES = {"GRPO": "posttrain", "NSR-PreRL": "pretrain"}
TINY = Shape(64, 96, 2, 2, 1, 32, 500, True)  # vLLM knows no narrower heads


@dataclass(frozen=True)
class Case:
    """One measurement. rows answers of `answer_tokens` tokens, micro-batches of `micro_batch_tokens`."""

    shape: dict
    space: str
    side: str
    rows: int
    prompt_tokens: int
    answer_tokens: int
    micro_batch_tokens: int
    precision: str
    repeats: int

    def flops(self) -> float:
        """Of the forward and backward passes of one update."""
        context = self.prompt_tokens if self.space == "posttrain" else 1
        length = context + self.answer_tokens - 1
        return Shape(**self.shape).training_flops(self.rows * length, length, self.rows * self.answer_tokens)


class Pass:
    """The model of a case with its optimizer and batch, ready to be updated again and again."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.accelerator: Accelerator = start_processes()
        device = self.accelerator.device
        torch.manual_seed(0)
        positions = case.prompt_tokens + case.answer_tokens
        with device:
            self.model = Qwen3ForCausalLM(Qwen3Config(**case.shape, max_position_embeddings=positions))
        if case.side == "ours":
            pack_rows(self.model)
            prepare(self.model, self.accelerator, case.precision, activation_checkpointing=True)
        elif case.side == "plain, checkpointing":
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-6, weight_decay=0.01, fused=device.type == "cuda"
        )
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(10, case.shape["vocab_size"], (case.rows, positions), generator=generator).tolist()
        self.contexts = [row[: case.prompt_tokens] if case.space == "posttrain" else [7] for row in ids]
        self.responses = [row[case.prompt_tokens :] for row in ids]
        signs = [1.0, -1.0] if case.space == "posttrain" else [-1.0, -0.5]
        self.advantages_R = torch.tensor([signs[row % 2] for row in range(case.rows)])
        self.weights_R = torch.full((case.rows,), 1 / (case.rows * case.answer_tokens), dtype=torch.double)

    def update(self) -> float:
        """One update; returns the norm of the gradient."""
        if self.case.side == "ours":
            options = {"temperature": 1.0, "micro_batch_tokens": self.case.micro_batch_tokens, "grad_clip": 1.0}
            batch = (self.contexts, self.responses, self.advantages_R, self.weights_R)
            done = policy_update(self.model, self.optimizer, self.accelerator, *batch, clip=(0.2, 0.2), **options)
            return done["grad_norm"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=False)
        lengths = [len(c) + len(r) for c, r in zip(self.contexts, self.responses, strict=True)]
        for rows in pack_micro_batches(lengths, self.case.micro_batch_tokens):
            device = self.accelerator.device.type
            with torch.autocast(device, torch.bfloat16, enabled=self.case.precision == "bfloat16"):
                logprobs_N = full_logprobs(
                    self.model, [self.contexts[r] for r in rows], [self.responses[r] for r in rows], 1.0
                )
            coefficients_R = (self.advantages_R * self.weights_R)[rows].float()
            counts = torch.tensor([len(self.responses[r]) for r in rows])
            (-logprobs_N * coefficients_R.repeat_interleave(counts).to(logprobs_N.device)).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return norm.item()


def resident_bytes(name: str) -> int:
    """VmRSS or VmHWM (its peak) of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def measure(case: Case) -> dict:
    """Seconds of each repeat, GiB held before the update and at its peak, or {"failed": …} where memory ran out."""
    try:
        job = Pass(case)
        job.update()  # makes the moments, compiles kernels
        gpu = job.accelerator.device.type == "cuda"
        if gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated() if gpu else resident_bytes("VmRSS")
        seconds = []
        for _ in range(case.repeats):
            norm: list[float] = []
            seconds.append(harness.seconds(lambda into=norm: into.append(job.update())))  # .item() waits for the GPU
        peak = torch.cuda.max_memory_allocated() if gpu else resident_bytes("VmHWM")
    except torch.OutOfMemoryError as error:
        return {"failed": "out of memory", "message": str(error).splitlines()[0]}
    return {"seconds": seconds, "held": held / GIB, "peak": peak / GIB, "grad_norm": norm[0]}


def in_a_process(case: Case) -> dict:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--worker", json.dumps(asdict(case))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def rows_of(name: str, title: str, case: Case, results: dict[str, dict], tflops: float | None) -> list[list[str]]:
    """Lines of the table: one a side."""
    tokens = case.rows * (case.answer_tokens + (case.prompt_tokens if case.space == "posttrain" else 1))
    lines = []
    for side, result in results.items():
        line = [name, f"{case.answer_tokens:,}", title, side]
        if "failed" in result:
            lines.append([*line, result["failed"], "", "", "", ""])
            continue
        rate = [tokens / seconds for seconds in result["seconds"]]
        flops = [case.flops() / seconds / 1e12 for seconds in result["seconds"]]
        used = "–" if tflops is None else harness.spread([100 * value / tflops for value in flops], 1)
        grown = result["peak"] - result["held"]
        lines.append(
            [*line, harness.spread(rate, 0), harness.spread(flops, 2), used, f"{result['peak']:.2f}", f"{grown:.2f}"]
        )
    return lines


def parity(shape: Shape, precision: str) -> list[list[str]]:
    """Our log-probs against plain float32 ones, both spaces; and vLLM's against ours, where vllm is installed."""
    case = Case(asdict(shape), "posttrain", "ours", 4, 64, 192, 512, precision, 1)
    plain = Pass(Case(**asdict(case) | {"side": "plain", "precision": "float32"}))
    ours = Pass(case)
    lines = []
    with torch.no_grad():
        for title, contexts in ((r"log P(y\|x)", ours.contexts), ("log P(y)", [[7]] * case.rows)):
            own = response_logprobs(ours.model, contexts, ours.responses)
            reference = full_logprobs(plain.model, contexts, ours.responses, 1.0)
            lines.append([title, "trainer, " + precision, "plain float32", *gap(own, reference)])
    del plain
    return lines + vllm_parity(ours)


def vllm_parity(job: Pass) -> list[list[str]]:
    """The sampler's gap to the trainer, of the first weights and after an update; nothing if there is no vllm."""
    from prerl.config.rollouts import EngineSettings, SamplingSettings
    from prerl.core.errors import UserError
    from prerl.rollouts.engines import build_sampler

    sampling = SamplingSettings(1.0, 1.0, job.case.answer_tokens, 64)
    tokens = job.case.prompt_tokens + job.case.answer_tokens
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        job.model.config.architectures = ["Qwen3ForCausalLM"]
        job.model.config.save_pretrained(folder)
        try:
            sampler = build_sampler(EngineSettings("vllm", 1.0), job.model, Path(folder), [1], sampling, tokens)
        except UserError as error:
            return [[r"log P(y\|x)", "vLLM", "trainer", f"not measured: {error}".split(",")[0], ""]]
        for title in (r"log P(y\|x)", "the same after an update and a sync"):
            rollouts = sampler.generate(job.contexts, [[row] for row in range(job.case.rows)], sampling)
            with torch.no_grad():
                own = response_logprobs(job.model, job.contexts, [rollout.token_ids for rollout in rollouts])
            sampled = torch.tensor([value for rollout in rollouts for value in rollout.logprobs], device=own.device)
            lines.append([title, "vLLM", "trainer", *gap(sampled, own)])
            job.update()
            sampler.sync_weights(job.model)
    return lines


def gap(a_N: torch.Tensor, b_N: torch.Tensor) -> list[str]:
    """Mean and largest |difference|, nats."""
    difference_N = (a_N - b_N).abs()
    return [f"{difference_N.mean().item():.1e}", f"{difference_N.max().item():.1e}"]


def machine(tflops: float | None) -> str:
    """The card, what it can, and what is compared."""
    if not torch.cuda.is_available():
        return "No GPU: the numbers mean nothing."
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / GIB
    peak = "unknown peak (--tflops)" if tflops is None else f"peak {tflops:,.0f} TFLOPs in bfloat16"
    return f"{name}, {memory:.1f} GiB, {peak}."


def benchmark(shapes: dict[str, Shape], lengths: list[int], tokens: int, options: argparse.Namespace, run) -> None:
    """Measure every case with `run` and write the report."""
    tflops = options.tflops
    if tflops is None and torch.cuda.is_available():
        tflops = next((peak for part, peak in PEAK_TFLOPS.items() if part in torch.cuda.get_device_name()), None)
    lines = []
    prompt = min(200, min(lengths))
    for name, shape in shapes.items():
        for answer in lengths:
            for title, space in SPACES.items():
                sizes = {"rows": max(2, tokens // answer), "prompt_tokens": prompt, "answer_tokens": answer}
                sizes |= {"micro_batch_tokens": max(tokens // 3, prompt + answer), "repeats": options.repeats}
                cases = {side: Case(asdict(shape), space, side, precision=options.precision, **sizes) for side in SIDES}
                results = {side: run(case) for side, case in cases.items()}
                lines += rows_of(name, title, cases["ours"], results, tflops)
    checks = parity(next(iter(shapes.values())), options.precision)
    harness.report(
        __file__,
        "Training passes on one GPU",
        machine(tflops),
        f"{options.repeats} updates a case, prompts of {prompt} tokens, {tokens:,} answer tokens an update in at "
        "least two rows; median (min to max). GiB: peak, and what the update adds to weights, gradients and moments.",
        harness.table(
            [
                "model",
                "answer tokens",
                "pass",
                "side",
                "tokens/s",
                "TFLOPs",
                "utilisation, %",
                "peak, GiB",
                "added, GiB",
            ],
            lines,
        ),
        "Parity, |difference| of log-probs, nats a token:",
        harness.table(["what", "of", "against", "mean", "largest"], checks),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=["qwen3", "tiny"], default="qwen3")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--tflops", type=float, help="dense bfloat16 peak of a card that the script does not know")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    harness.one_thread()
    if options.worker:
        print(json.dumps(measure(Case(**json.loads(options.worker)))))
    elif options.shapes == "tiny":
        benchmark({"tiny": TINY}, [32], 192, options, in_a_process)
    elif torch.cuda.is_available():
        models = harness.block("pilot")["models"] | harness.block("paper")["models"]
        shapes = {name: shape_of(models[name]) for name in ("qwen3-0.6b", "qwen3-1.7b", "qwen3-4b")}
        benchmark(shapes, [1024, 4096, 8192], 32768, options, in_a_process)
    else:
        parser.error("no GPU here; --shapes tiny runs the same code on a CPU")


if __name__ == "__main__":
    main()
