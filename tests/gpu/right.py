"""Stage `right`: numbers of the GPU against plain float32 transformers and against the CPU."""

from __future__ import annotations

import copy
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from common import GIB, emit, on_gpu, seconds
from official import full_logprobs
from prerl.models.logprobs import response_logprobs
from prerl.models.packing import PackedLayout, pack_rows, packed_attention
from prerl.models.sharding import prepare, start_processes
from prerl.training.updates import adamw, policy_update

FAMILIES: dict[str, dict] = {  # one with a window in half of its layers, one with an output layer that has a bias
    "Qwen3": {"model_type": "qwen3"},
    "Llama": {"model_type": "llama"},
    "Gemma 3": {
        "model_type": "gemma3_text",
        "sliding_window": 20,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "Phi": {"model_type": "phi"},
}
SPACES = ("log P(y|x)", "log P(y)")


def small_model(family: str, tiny: bool) -> PreTrainedModel:
    """Random float32 weights on the CPU, with the head width of the real models unless tiny."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "vocab_size": 500}
    if not tiny:
        sizes = {"hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128, "vocab_size": 32000}
    torch.manual_seed(0)
    heads = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4}
    ids = {"pad_token_id": 0, "max_position_embeddings": 2048, "initializer_range": 0.05}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**FAMILIES[family], **sizes, **heads, **ids))


def batch(vocabulary: int, longest: int) -> tuple[dict[str, list[list[int]]], list[list[int]]]:
    """Contexts of both spaces and responses: eight rows of different lengths, two for each prompt."""
    generator = torch.Generator().manual_seed(1)

    def ids(length: int) -> list[int]:
        return torch.randint(10, vocabulary, (length,), generator=generator).tolist()

    responses = [ids(max(1, longest * (row + 1) // 8)) for row in range(8)]
    prompts = [ids(5 + 3 * row) for row in range(4)]
    return {SPACES[0]: [prompts[row // 2] for row in range(8)], SPACES[1]: [[7]] * 8}, responses


def right(tiny: bool) -> None:
    """Numbers of the GPU against plain float32 transformers and against the CPU."""
    accelerator = start_processes()
    if not tiny:
        emit("a matrix product", tflops=matrix_product_tflops())
    for family in FAMILIES:
        model = small_model(family, tiny)
        logprobs_agree(family, model, accelerator, 32 if tiny else 600)
        gradients_agree(family, model, accelerator, 32 if tiny else 200)
    attention_memory(256 if tiny else 16384)
    checkpoint_travels(tiny)


def matrix_product_tflops() -> float:
    """bfloat16, 8192 x 8192 x 8192: what this card can do."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    return 10 * 2 * 8192**3 / seconds(lambda: [a @ b for _ in range(10)]) / 1e12


def sides(model: PreTrainedModel, accelerator: Accelerator) -> Iterator[tuple[str, PreTrainedModel]]:
    """Ours, each on the device: padded or packed, float32 or bfloat16."""
    for precision in ("float32", "bfloat16"):
        for packed in (False, True):
            ours = copy.deepcopy(model)
            if packed:
                pack_rows(ours)
            prepare(ours, accelerator, precision, activation_checkpointing=True)
            yield f"{'packed' if packed else 'padded'} {precision}", ours


@torch.no_grad()
def logprobs_agree(family: str, model: PreTrainedModel, accelerator: Accelerator, longest: int) -> None:
    """Log-probs of both spaces against plain float32; bfloat16 also beside plain transformers in bfloat16."""
    contexts, responses = batch(model.config.vocab_size, longest)
    plain = copy.deepcopy(model).to(accelerator.device)
    references = {space: full_logprobs(plain, contexts[space], responses, 1.0) for space in SPACES}
    half = copy.deepcopy(model).to(accelerator.device, torch.bfloat16)
    errors = {
        space: (full_logprobs(half, contexts[space], responses, 1.0) - references[space]).abs() for space in SPACES
    }
    for name, ours in sides(model, accelerator):
        for space in SPACES:
            gap = (response_logprobs(ours, contexts[space], responses) - references[space]).abs()
            # float32: rounding. bfloat16: no worse than twice what plain transformers loses
            limit = 1e-3 if "float32" in name else 2 * errors[space].max().item()
            emit(
                f"log-probs, {family}, {name}, {space}",
                ok=gap.max().item() < limit,
                mean=gap.mean().item(),
                largest=gap.max().item(),
                plain_bfloat16_mean=errors[space].mean().item(),
                plain_bfloat16_largest=errors[space].max().item(),
            )


def gradient(model: PreTrainedModel, accelerator: Accelerator, contexts: list, responses: list, signs: list):
    """Gradient of one update, unclipped, over all parameters: flat float32 on the CPU. The weights do not move."""
    optimizer = adamw(model, accelerator, 0.0, 0.01, (0.9, 0.999), 1e-8)
    weights_R = torch.full((len(responses),), 1 / sum(map(len, responses)), dtype=torch.double)
    options = {"clip": (0.2, 0.2), "temperature": 1.0, "micro_batch_tokens": 512, "grad_clip": 1e9}
    advantages_R = torch.tensor(signs)
    policy_update(model, optimizer, accelerator, contexts, responses, advantages_R, weights_R, **options)
    gradients = (p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad for p in model.parameters())
    return torch.cat([g.flatten().float().cpu() for g in gradients])


def gradients_agree(family: str, model: PreTrainedModel, accelerator: Accelerator, longest: int) -> None:
    """The gradient of a GRPO and of an NSR-PreRL update against the CPU's in float32."""
    contexts, responses = batch(model.config.vocab_size, longest)
    updates = {"GRPO": (SPACES[0], [1.0, -1.0] * 4), "NSR-PreRL": (SPACES[1], [-1.0, 0.0] * 4)}
    for update, (space, signs) in updates.items():
        cpu = Accelerator(cpu=True) if not on_gpu() else None
        reference = cpu_gradient(model, contexts[space], responses, signs, cpu or accelerator)
        for name, ours in sides(model, accelerator):
            found = gradient(ours, accelerator, contexts[space], responses, signs)
            difference = ((found - reference).norm() / reference.norm()).item()
            cosine = torch.nn.functional.cosine_similarity(found.double(), reference.double(), dim=0).item()
            ok = difference < (1e-3 if "float32" in name else 0.1)
            twice = {}
            if on_gpu():
                again = gradient(ours, accelerator, contexts[space], responses, signs)
                twice = {"same_bits_again": torch.equal(found, again)}
            emit(
                f"gradient, {family}, {update}, {name}",
                ok=ok,
                relative_difference=difference,
                cosine=cosine,
                **twice,
            )


def cpu_gradient(model: PreTrainedModel, contexts: list, responses: list, signs: list, accelerator: Accelerator):
    """Naive: plain transformers on the CPU, all logits, in float32."""
    plain = copy.deepcopy(model)
    logprobs_N = full_logprobs(plain, contexts, responses, 1.0)
    coefficients_R = torch.tensor(signs) / sum(map(len, responses))
    counts = torch.tensor([len(response) for response in responses])
    (-logprobs_N * coefficients_R.repeat_interleave(counts)).sum().backward()
    return torch.cat([p.grad.flatten() for p in plain.parameters()])


def attention_memory(tokens: int) -> None:
    """Peak memory of the packed attention, forward and backward, against one T x T matrix of a single head."""
    for dtype in (torch.bfloat16, torch.float32):
        emit(f"attention memory, {str(dtype).removeprefix('torch.')}", **attention(tokens, dtype))


def attention(tokens: int, dtype: torch.dtype) -> dict:
    """Two rows of half the tokens each, 16 query and 8 key heads of width 128."""
    device = torch.device("cuda" if on_gpu() else "cpu")
    q, k, v = (
        torch.randn(1, heads, tokens, 128, device=device, dtype=dtype, requires_grad=True) for heads in (16, 8, 8)
    )
    module = torch.nn.Module()
    module.is_causal, module.num_key_value_groups = True, 2
    layout = PackedLayout([tokens // 2, tokens - tokens // 2], [], device)
    held = torch.cuda.memory_allocated() if on_gpu() else 0
    if on_gpu():
        torch.cuda.reset_peak_memory_stats()
    took = seconds(lambda: packed_attention(module, q, k, v, None, layout, scaling=0.1)[0].sum().backward())
    matrix = tokens * tokens * dtype.itemsize / 4  # of one row, a single head
    inputs = q.nbytes + k.nbytes + v.nbytes
    values = {"tokens": tokens, "seconds": took, "inputs_gib": inputs / GIB, "one_head_matrix_gib": matrix / GIB}
    if not on_gpu():
        return values
    peak = torch.cuda.max_memory_allocated() - held  # of all 16 heads a matrix would be 16 times that
    return values | {"ok": peak < 6 * inputs + 8 * matrix, "peak_gib": peak / GIB}


def checkpoint_travels(tiny: bool) -> None:
    """A run that begins on the device, goes on on the CPU and ends on the device; tiny: interrupted once."""
    import tiny_training
    from training_jobs import Training, start_script, wait_for_update

    with tempfile.TemporaryDirectory() as name:
        shop = tiny_training.Workshop(Path(name))
        last, folder = 30 if tiny else 60, Path(name) / "travel"
        parts = ((5, False), (15, True), (None, False))  # until which update, the card hidden
        settings = tiny_training.job({"last_update": last}, validation={"updates": []})
        settings |= {"kept_updates": [last], "optimizer_updates": [last]}
        job = Training(shop, settings)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        ends = []
        for until, hidden in parts[1:] if tiny else parts:
            os.environ["CUDA_VISIBLE_DEVICES"] = "" if hidden or visible == "" else visible or "0"
            child = start_script(job, folder)
            if until is not None:
                wait_for_update(child, folder, until)
                child.send_signal(signal.SIGTERM)
            code = child.wait()
            ends.append(json.loads((folder / "state/progress.json").read_text())["update"])
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        if code:
            print((folder / "log").read_text())
            raise RuntimeError(f"the last part ended with code {code}")
        updates = pq.read_table(folder / "output/metrics.parquet")["update"].to_pylist()
        ok = updates == list(range(1, last + 1)) and ends == sorted(set(ends)) and ends[-1] == last
        emit("checkpoint: device, CPU, device", ok=ok, ends=ends)
