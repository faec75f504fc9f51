"""Stages `fast`, `profile` and `sampler`: training passes, where their time goes, and our own sampler."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

import gpu as passes
from common import GIB, emit, free, on_gpu, qwen3, seconds
from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.models.logprobs import response_logprobs
from prerl.rollouts.engines import build_sampler


def cases(tiny: bool) -> Iterator[tuple[str, passes.Case]]:
    """(model, case) in order of worth: ours first, 4B first, the plain side at the end."""
    shapes = {"tiny": passes.TINY} if tiny else {name: qwen3(f"qwen3-{name}") for name in ("4b", "0.6b", "1.7b")}
    lengths, tokens = ([16], 64) if tiny else ([4096, 8192, 1024], 32768)
    for side in passes.SIDES:
        for name, shape in shapes.items():
            for answer in lengths:
                for title, space in passes.SPACES.items():
                    prompt = min(200, answer)
                    micro = max(tokens // 3, prompt + answer)
                    rows = max(2, tokens // answer)
                    case = passes.Case(asdict(shape), space, side, rows, prompt, answer, micro, "bfloat16", 2)
                    yield f"{name}, {answer} tokens, {title}, {side}", case


def fast(tiny: bool) -> None:
    """Tokens a second, FLOPs utilisation and peak memory of training passes."""
    peak = next(
        (p for part, p in passes.PEAK_TFLOPS.items() if on_gpu() and part in torch.cuda.get_device_name()), None
    )
    for name, case in cases(tiny):
        result = passes.measure(case)
        free()
        if "failed" in result:
            emit(name, **result)
            continue
        took = statistics.median(result["seconds"])
        context = case.prompt_tokens if case.space == "posttrain" else 1
        tflops = case.flops() / took / 1e12
        emit(
            name,
            tokens_per_s=case.rows * (case.answer_tokens + context) / took,
            tflops=tflops,
            utilisation=None if peak is None else tflops / peak,
            peak_gib=result["peak"],
            held_gib=result["held"],
            seconds=result["seconds"],
        )


def profile(tiny: bool) -> None:
    """Where the time of the 4B pass goes: the ten largest kernels, and the time in which none runs."""
    from torch.profiler import ProfilerActivity

    case = next(case for _, case in cases(tiny))
    job = passes.Pass(case)
    job.update()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu() else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        took = seconds(job.update)

    def own_s(event) -> float:
        return (event.self_device_time_total if on_gpu() else event.self_cpu_time_total) / 1e6

    events = [event for event in profiler.key_averages() if own_s(event) > 0]
    if on_gpu():  # kernels; the operators that launch them carry the same time
        events = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    events.sort(key=own_s, reverse=True)
    emit("4b, 4096 tokens, GRPO", seconds=took, in_kernels_s=sum(map(own_s, events)))
    for event in events[:10]:
        emit("kernel", kernel=event.key[:120], seconds=own_s(event), calls=event.count)


def sampler(tiny: bool) -> None:
    """Our own sampler, for GPUs without vLLM: tokens a second and memory, Qwen3-0.6B."""
    shape = passes.TINY if tiny else qwen3("qwen3-0.6b")
    sizes = (4, 8) if tiny else (256, 1024)
    prompt, new = (8, 8) if tiny else (128, 128)
    job = passes.Pass(passes.Case(asdict(shape), "posttrain", "ours", 2, prompt, new, 512, "bfloat16", 1))
    sampling = SamplingSettings(1.0, 1.0, new, max(sizes))
    ours = build_sampler(EngineSettings("transformers"), job.model, Path(), [1], sampling, prompt + new)
    for rows in sizes:
        if on_gpu():
            torch.cuda.reset_peak_memory_stats()
        prompts = [job.contexts[0][:prompt]] * (rows // 4)
        rollouts: list = []
        seeds = [[4 * i + j for j in range(4)] for i in range(rows // 4)]
        took = seconds(lambda p=prompts, s=seeds, into=rollouts: into.extend(ours.generate(p, s, sampling)))
        tokens = sum(len(rollout.token_ids) for rollout in rollouts)
        peak = torch.cuda.max_memory_allocated() / GIB if on_gpu() else None
        with torch.no_grad():
            first = [rollout.token_ids for rollout in rollouts[:2]]
            trainer_N = response_logprobs(job.model, [prompts[0]] * 2, first).cpu()
        sampled_N = torch.tensor([value for rollout in rollouts[:2] for value in rollout.logprobs])
        gap = (trainer_N - sampled_N).abs().max().item()
        speed = {"tokens_per_s": tokens / took, "step_s": took / new, "seconds": took, "tokens": tokens}
        emit(f"{rows} rows", **speed, peak_gib=peak, gap_max_nats=gap)
