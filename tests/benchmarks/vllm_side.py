"""The vLLM side of sampling.py: python vllm_side.py MODEL PROMPTS_JSON SAMPLES, in .venv-vllm.

Says `ready`, then for each line with a number of new tokens samples one batch and says `sampled` and its tokens.
"""

from __future__ import annotations

import json
import sys

from vllm import LLM, SamplingParams


def main() -> None:
    model, prompts, samples = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    engine = LLM(
        model,
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=256,
        gpu_memory_utilization=0.3,
        kv_cache_memory_bytes=1 << 28,
    )
    print("ready", flush=True)
    for line in sys.stdin:
        parameters = SamplingParams(
            n=samples, temperature=1.0, max_tokens=int(line), ignore_eos=True, logprobs=0, detokenize=False
        )
        outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], parameters, use_tqdm=False)
        tokens = sum(len(completion.token_ids) for output in outputs for completion in output.outputs)
        print(f"sampled {tokens}", flush=True)


if __name__ == "__main__":
    main()
