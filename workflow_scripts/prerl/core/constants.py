"""Constants that several packages share. Nothing is imported, so that a dry run may read them."""

GIB = 1 << 30
"""Bytes."""

BASE = "base"
"""Name of the untrained model among the methods' results."""

MEAN = "mean"
"""Name, among the benchmarks, of the unweighted mean over the main ones."""

CHUNK_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 27}
"""Largest number of logits that exist at a time in the chunked log-softmax: 64 and 512 MiB in float32.

On a GPU a chunk must be so long that the sum of the head's gradient over chunks costs little beside its product.
"""

SHARD_ROWS = {"transformers": 4096, "vllm": 4096}
"""Samples in a shard of an evaluation: what an interruption can lose, and what a GPU takes at a time.

A GPU waits for the longest answer of each shard.
"""

LONGEST_SHARING = 2048
"""Tokens of a response above which its row gets a prompt of its own when packed: sharing one may need a mask."""

HARNESS_TOKENS = 40_960
"""Most tokens of a prompt and answer in lm-evaluation-harness: all positions of Qwen3 (max_position_embeddings)."""
