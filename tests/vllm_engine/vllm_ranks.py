"""One of two processes of test_vllm_training: a sharded model, an engine of its own, its share of the prompts.

python vllm_ranks.py FOLDER under torchrun; writes FOLDER/rank{n}.json: largest gaps to the whole model, and token ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor
from vllm_models import ENGINE, SETTINGS, gaps, make_model, seeds_of

from prerl.data.miniature import save_model
from prerl.models.sharding import prepare, start_processes
from prerl.rollouts.engines import build_sampler
from tiny import EOS, TOKENIZER, random_ids


def main() -> None:
    folder = Path(sys.argv[1])
    accelerator = start_processes()
    rank = accelerator.process_index
    whole, sharded = make_model(), make_model()
    prepare(sharded, accelerator)
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    if accelerator.is_main_process:
        save_model(whole, TOKENIZER, folder / "model")
    accelerator.wait_for_everyone()
    sampler = build_sampler(ENGINE, sharded, folder / "model", [EOS], SETTINGS, 256)
    generator = torch.Generator().manual_seed(2)
    prompts = [random_ids(generator, length) for length in (20, 17, 3)]
    found = []
    for round_ in range(3):
        share = prompts[rank::2] if round_ < 2 else prompts if rank == 0 else []  # at last all to one rank
        if share:
            found.append(gaps(whole, sampler, share).max().item())
        with torch.no_grad():
            for model in (whole, sharded):
                for parameter in model.parameters():
                    parameter.mul_(1.02)
        sampler.sync_weights(sharded)
    answers = sampler.generate(prompts[rank::2], seeds_of(prompts)[rank::2], SETTINGS)
    (folder / f"rank{rank}.json").write_text(json.dumps({"gaps": found, "ids": [a.token_ids for a in answers]}))
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main()
