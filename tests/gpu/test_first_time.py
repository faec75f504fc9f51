"""What would break the first time on a GPU, shown without one.

Under torch's fake tensors the device "meta" stands for the GPU: nothing is computed, but an operation whose tensors lie
on two devices raises, as on a GPU, and so does one that has to wait for the device.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
from accelerate import Accelerator
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from prerl.core.constants import CHUNK_LOGITS
from prerl.models import packing
from prerl.models.logprobs import response_logprobs
from prerl.models.sharding import prepare
from prerl.models.training_checkpoints import load_optimizer, save_checkpoint
from prerl.rollouts.transformers_sampler import TransformersSampler
from tiny import TOKENIZER, tiny_model

SIZES = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "head_dim": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip
CONTEXTS, RESPONSES = [[1, 2], [3, 4], [3, 4]], [[4, 5, 6], [7], [8, 9]]


@pytest.fixture(params=["qwen3", "llama", "gemma3_text", "mistral", "phi"])
def on_device(request) -> Iterator[PreTrainedModel]:
    """A model whose weights and buffers lie on the pretended GPU."""
    keys = {"sliding_window": 2} if request.param in ("gemma3_text", "mistral") else {}  # shorter than the rows
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(AutoConfig.for_model(request.param, **SIZES, **keys))
        assert isinstance(next(built.parameters()).data, FakeTensor)
        yield built


def test_the_pretended_gpu_refuses_tensors_of_two_devices():
    with FakeTensorMode(), pytest.raises(RuntimeError, match="same device|two different devices"):
        torch.ones(3) + torch.ones(3).to("meta")


@pytest.mark.parametrize("chunk_logits", [None, 100])  # 100: one token's logits at a time, made again backwards
@pytest.mark.parametrize("packed", [False, True])
def test_a_training_pass_stays_on_the_device_and_never_waits_for_it(on_device, packed, chunk_logits, monkeypatch):
    monkeypatch.setattr(packing, "fits_flash_attention", lambda query: True)
    for parameter in on_device.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    if packed:
        packing.pack_rows(on_device)
    monkeypatch.setitem(CHUNK_LOGITS, "meta", 1 << 20)
    logprobs_N = response_logprobs(on_device, CONTEXTS, RESPONSES, 1.0, chunk_logits)
    assert logprobs_N.shape == (6,) and logprobs_N.dtype == torch.float32 and logprobs_N.device.type == "meta"
    logprobs_N.sum().backward()
    assert all(parameter.grad.device.type == "meta" for parameter in on_device.parameters())


def test_the_samplers_prompt_pass_stays_on_the_device(on_device):
    sampler = TransformersSampler(on_device, [1])
    logits_PV, cache, valid_PT = sampler._prefill(CONTEXTS)
    assert {logits_PV.device.type, cache.layers[0].keys.device.type, valid_PT.device.type} == {"meta"}


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "fits"),
    [
        (torch.bfloat16, 128, (9, 0), True),
        (torch.bfloat16, 256, (8, 0), True),
        (torch.float32, 128, (9, 0), False),
        (torch.bfloat16, 12, (9, 0), False),
        (torch.bfloat16, 264, (9, 0), False),
        (torch.float16, 128, (7, 5), False),
    ],
)
def test_what_flash_attention_takes(dtype, width, capability, fits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with FakeTensorMode():
        query = torch.empty(1, 2, 3, width, dtype=dtype, device="cuda")
        assert packing.fits_flash_attention(query) is fits
        assert packing.knows_grouped_heads(query) is fits
    assert not packing.fits_flash_attention(torch.empty(1, 2, 3, width, dtype=dtype))


def test_the_rotary_frequencies_stay_float32_in_a_bfloat16_pass():
    """In bfloat16, whose steps at position 8,000 are 32 wide, neighbouring positions would be one."""
    model = tiny_model()
    frequencies = model.model.rotary_emb.inv_freq.clone()
    prepare(model, Accelerator(cpu=True), "bfloat16")
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, frequencies, rtol=0, atol=0)
    sampler = TransformersSampler(model, [1])
    assert next(sampler.model.parameters()).dtype == torch.bfloat16
    torch.testing.assert_close(sampler.model.model.rotary_emb.inv_freq, frequencies, rtol=0, atol=0)


@pytest.mark.parametrize("fused_first", [True, False])
def test_fused_adamw_resumes_from_a_checkpoint_and_steps_as_the_plain_one(fused_first, tmp_path):
    """The GPU's optimizer is fused, the CPU's is not; a run may move between them. Fused AdamW runs on a CPU too."""
    torch.manual_seed(0)
    start = tiny_model()
    gradients = [[torch.randn_like(p) for p in start.parameters()] for _ in range(3)]
    accelerator = Accelerator(cpu=True)

    def adamw(model: PreTrainedModel, fused: bool) -> torch.optim.AdamW:
        return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01, fused=fused)

    def step(model: PreTrainedModel, optimizer: torch.optim.AdamW, update: int) -> None:
        for parameter, gradient in zip(model.parameters(), gradients[update], strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()

    reference = copy.deepcopy(start)
    plain = adamw(reference, fused=False)
    for update in range(3):
        step(reference, plain, update)
    model = copy.deepcopy(start)
    optimizer = adamw(model, fused_first)
    step(model, optimizer, 0)
    step(model, optimizer, 1)
    save_checkpoint(tmp_path / "it", model, TOKENIZER, optimizer, {}, accelerator)
    resumed = adamw(model, not fused_first)
    load_optimizer(tmp_path / "it", model, resumed)
    assert all(state["step"].device == parameter.device for parameter, state in resumed.state.items())
    step(model, resumed, 2)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_one_rank_in_bfloat16_needs_no_launcher_and_sums_in_float32():
    """fully_shard on one device: a process group of its own, float32 master weights and gradients, bfloat16 passes."""
    model, plain = tiny_model(), tiny_model()
    prepare(model, Accelerator(cpu=True), "bfloat16")
    logprobs_N = response_logprobs(model, CONTEXTS, RESPONSES)
    logprobs_N.sum().backward()
    reference_N = response_logprobs(plain, CONTEXTS, RESPONSES)
    reference_N.sum().backward()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert ours.grad.dtype == torch.float32
        assert (ours.grad.full_tensor() - theirs.grad).norm() < 0.05 * max(theirs.grad.norm(), 1e-3)
