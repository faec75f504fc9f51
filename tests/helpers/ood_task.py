"""A task of 20 rows for lm-evaluation-harness in a folder of its own, and a tiny Qwen3 with the real tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml
from transformers import Qwen3Config, Qwen3ForCausalLM

from prerl.models.checkpoints import seal
from prerl.models.prompts import load_tokenizer

ROOT = Path(__file__).parents[2]
TOKENIZER = ROOT.parent / "shared/data/qwen_tokenizer"
ROWS = 20
ENTRY = {
    "task": "sums",
    "version": 1.5,
    "metric": "exact_match",
    "filter": "first-bit",
    "few_shot": 2,
    "questions": ROWS,
    "runs_code": False,
}


def write_task(folder: Path, **changes) -> Path:
    """Write the task `sums` with its rows; `changes` go into its YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"a": i, "b": (3 * i) % 7, "odd": str((i + (3 * i) % 7) % 2)} for i in range(ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "fewshot_split": "test",
        "num_fewshot": 2,
        "fewshot_config": {"sampler": "first_n"},
        "output_type": "generate_until",
        "doc_to_text": "Is {{a}} + {{b}} even (0) or odd (1)?",
        "doc_to_target": "{{odd}}",
        "generation_kwargs": {"until": ["\n\n"], "do_sample": False},
        "filter_list": [
            {
                "name": "first-bit",
                "filter": [{"function": "regex", "regex_pattern": "([01])"}, {"function": "take_first"}],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.5},
    }
    (folder / "sums.yaml").write_text(yaml.safe_dump(task | changes))
    return folder


def write_model(folder: Path) -> Path:
    """A Qwen3 of one layer that answers everything with random digits, sealed -> its manifest."""
    tokenizer = load_tokenizer(TOKENIZER)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(1.0)  # every token the same: so one hidden state
        model.get_output_embeddings().weight.zero_()
        hidden_D = model.model(torch.tensor([[0]])).last_hidden_state[0, 0]
        for digit in "0123456789":
            token = tokenizer.convert_tokens_to_ids(digit)
            model.get_output_embeddings().weight[token] = 30 * hidden_D / hidden_D.square().sum()  # logit 30 against 0
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    seal(folder)
    return folder / "manifest.json"
