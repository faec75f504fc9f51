"""Log-probs of responses against the full log-softmax, and P(y) as P(y | prefix token)."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from prerl.models.batching import pack_micro_batches
from prerl.models.logprobs import ChunkedLogprobs, response_hidden, response_logprobs, token_statistics
from tiny import FAMILIES, PREFIX, VOCABULARY, family_model, flat_gradient, naive_logprobs, random_ids, tiny_model

SHAPES = [(5, 7), (1, 3), (12, 1), (3, 11), (20, 4), (1, 9), (7, 7), (2, 2)]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module", params=FAMILIES)
def any_model(request):
    return family_model(request.param)


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(1)
    contexts = [random_ids(generator, context) for context, _ in SHAPES]
    return contexts, [random_ids(generator, response) for _, response in SHAPES]


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_equal_to_the_full_log_softmax_and_temperature_divides_logits(any_model, rows, temperature):
    with torch.no_grad():
        ours = response_logprobs(any_model, *rows, temperature)
        naive = torch.cat([naive_logprobs(any_model, c, r, temperature) for c, r in zip(*rows, strict=True)])
    assert ours.dtype == torch.float32 and ours.shape == naive.shape
    torch.testing.assert_close(ours, naive, atol=1e-5, rtol=0)
    assert ours.std() > 0.3, "the reference tells nothing on a uniform distribution"


def test_temperature_is_no_multiple_of_the_logprobs(model, rows):
    with torch.no_grad():
        warm, plain = response_logprobs(model, *rows, 2.0), response_logprobs(model, *rows, 1.0)
    assert not torch.allclose(warm, plain / 2, atol=1e-2)


@pytest.mark.parametrize("tokens_per_chunk", [1, 5, 43, 44])
def test_chunked_equals_unchunked_in_values_and_gradients(any_model, rows, tokens_per_chunk):
    assert sum(response for _, response in SHAPES) == 44
    weights = torch.linspace(-1, 1, 44)
    whole = response_logprobs(any_model, *rows)
    chunked = response_logprobs(any_model, *rows, chunk_logits=tokens_per_chunk * VOCABULARY)
    torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=0)
    difference = flat_gradient((chunked * weights).sum(), any_model) - flat_gradient((whole * weights).sum(), any_model)
    assert difference.abs().max() <= 1e-5  # gradients of a sum over 44 tokens


def test_gradients_of_many_chunks_in_bfloat16_are_as_those_of_one_product():
    generator = torch.Generator().manual_seed(2)
    targets = torch.randint(0, 50, (400,), generator=generator)
    tensors = [
        (torch.randn(*size, generator=generator) / 2).to(torch.bfloat16) for size in ((400, 16), (50, 16), (50,))
    ]
    weights = torch.rand(400, generator=generator)

    def gradients(dtype, logprobs_of):
        inputs = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors]
        (logprobs_of(*inputs) * weights).sum().backward()
        return [tensor.grad.double() for tensor in inputs]

    exact = gradients(
        torch.double, lambda h, w, b: ((h @ w.T + b) / 0.7).log_softmax(1).gather(1, targets[:, None])[:, 0]
    )
    for chunk in (1, 7, 400):
        ours = gradients(torch.bfloat16, lambda h, w, b, c=chunk: ChunkedLogprobs.apply(h, w, b, targets, 0.7, c))
        for own, other in zip(ours, exact, strict=True):
            assert (own - other).norm() / other.norm() < 4e-3  # rounding of bfloat16: 2 ** -8


class Products(TorchDispatchMode):
    """Shapes of all matrix products made meanwhile."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if function is torch.ops.aten.mm.default:
            self.shapes.append(tuple(result.shape))
        return result


@pytest.mark.parametrize("gradient", [True, False])
def test_no_logits_tensor_above_the_chunk(model, rows, gradient):
    with Products() as products, torch.set_grad_enabled(gradient):
        logprobs = response_logprobs(model, *rows, chunk_logits=8 * VOCABULARY)
        if gradient:
            logprobs.sum().backward()
    model.zero_grad()
    tokens = [shape[0] for shape in products.shapes if shape[1] == VOCABULARY]
    assert max(tokens) == 8 and sum(tokens) == (2 if gradient else 1) * 44  # again in the backward pass, and no oftener


@pytest.mark.parametrize("pad_id", [1, 17, VOCABULARY - 1])
def test_right_padding_of_any_id_changes_nothing(model, rows, pad_id):
    with torch.no_grad():
        hidden, targets = response_hidden(model, *rows, pad_id=0)
        other, same_targets = response_hidden(model, *rows, pad_id=pad_id)
    assert torch.equal(targets, same_targets)
    torch.testing.assert_close(other, hidden, atol=1e-6, rtol=0)


def test_junk_embeddings_of_the_padding_change_nothing(model, rows):
    """The filling of +-10,000: even an embedding of that size at the padded places is not seen."""
    junk = copy.deepcopy(model)
    with torch.no_grad():
        junk.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())  # untied: the head stays
        junk.model.embed_tokens.weight[0] = torch.where(torch.arange(32) % 2 == 0, 10_000.0, -10_000.0)
        torch.testing.assert_close(response_logprobs(junk, *rows), response_logprobs(model, *rows), atol=1e-6, rtol=0)


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_a_batch_split_into_parts_has_the_same_gradient(model, rows, parts):
    """A global token mean: weight 1 / (all tokens), whatever the split."""
    contexts, responses = rows
    whole = torch.cat([naive_logprobs(model, c, r) for c, r in zip(contexts, responses, strict=True)]).mean()
    expected = flat_gradient(whole, model)
    total = torch.zeros_like(expected)
    for part in range(parts):
        own = slice(part, None, parts)
        logprobs = response_logprobs(model, contexts[own], responses[own])
        total += flat_gradient(logprobs.sum() / 44, model)
    assert expected.abs().max() > 1e-2
    assert (total - expected).abs().max() <= 1e-6


def test_p_of_y_scores_every_token_from_the_prefix_at_position_0(any_model, rows):
    y = rows[1][3]
    ids = [PREFIX, *y]
    with torch.no_grad():
        ours = response_logprobs(any_model, [[PREFIX]], [y])
        logprobs = any_model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        alone = torch.stack([logprobs[position, ids[position + 1]] for position in range(len(y))])
        positions = torch.arange(len(ids))[None]
        explicit = any_model(input_ids=torch.tensor([ids]), position_ids=positions).logits[0].log_softmax(-1)
    assert len(ours) == len(y)
    torch.testing.assert_close(ours, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours[0], explicit[0, y[0]], atol=1e-5, rtol=0)  # the prefix scores y_1


def test_p_of_y_is_p_of_y_given_x_when_x_is_the_prefix_and_only_then(model, rows):
    contexts, responses = rows
    with torch.no_grad():
        without = response_logprobs(model, [[PREFIX]] * len(responses), responses)
        alone = torch.cat([response_logprobs(model, [[PREFIX]], [y]) for y in responses])
        given_x = response_logprobs(model, contexts, responses)
    torch.testing.assert_close(without, alone, atol=1e-5, rtol=0)
    assert (without - given_x).abs().mean() > 0.05


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_softmax_is_float32_with_a_bfloat16_model(model, rows, temperature):
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        ours = response_logprobs(half, *rows, temperature)
        hidden, targets = response_hidden(half, *rows)
        logits = half.lm_head(hidden)
        statistics = token_statistics(half, *rows, temperature)
    assert logits.dtype == torch.bfloat16 and ours.dtype == torch.float32 == statistics.logprobs.dtype
    expected = (logits.double() / temperature).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(ours.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(statistics.logprobs.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_tokens", [3, 100])
def test_token_statistics(any_model, rows, temperature, chunk_tokens):
    statistics = token_statistics(any_model, *rows, temperature, chunk_logits=chunk_tokens * VOCABULARY)
    contexts, responses = rows
    entropies, top_ids = [], []
    with torch.no_grad():
        for context, response in zip(contexts, responses, strict=True):
            logits = any_model(input_ids=torch.tensor([context + response])).logits[0, len(context) - 1 : -1]
            entropies.append(torch.distributions.Categorical(logits=logits / temperature).entropy())
            top_ids.append(logits.argmax(-1))
        logprobs = response_logprobs(any_model, contexts, responses, temperature)
    torch.testing.assert_close(statistics.logprobs, logprobs, atol=1e-5, rtol=0)
    torch.testing.assert_close(statistics.entropies, torch.cat(entropies), atol=1e-5, rtol=0)
    assert torch.equal(statistics.top_ids, torch.cat(top_ids))


@pytest.mark.parametrize(("contexts", "responses"), [([[]], [[5]]), ([[5]], [[]])])
def test_an_empty_context_or_response_is_refused(model, contexts, responses):
    with pytest.raises(ValueError, match="at least one token"):
        response_logprobs(model, contexts, responses)


def test_micro_batches_hold_every_row_once_within_the_limit():
    lengths = torch.randint(1, 60, (200,), generator=torch.Generator().manual_seed(3)).tolist()
    batches = pack_micro_batches(lengths, 128)
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 128 for batch in batches)
    assert len(batches) < 100
    assert pack_micro_batches([500, 3], 128) == [[0], [1]]  # a row beyond the limit has a micro-batch of its own
    assert pack_micro_batches([], 128) == []
