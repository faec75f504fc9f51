"""measure_answers: log P(y) of the shown answers against plain transformers, and whose they are."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import measure_answers
import tiny_training
from prerl.core.files import write_parquet
from prerl.evaluation.answers import SAMPLE_KEY_FIELDS
from prerl.models.checkpoints import load_model
from prerl.models.packing import pack_rows
from tiny import PREFIX

RESPONSES = {0: [[5, 6, 7], [8]], 4: [[9, 5], [6, 6, 6, 6, 6]]}  # update -> answers to question q
TEMPERATURE = 0.7


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed, as on a GPU"])
def test_each_answer_under_its_policy_alone(tmp_path, monkeypatch, packed):
    def load(folder):
        model = load_model(folder)
        if packed:
            pack_rows(model)
        return model

    monkeypatch.setattr(measure_answers, "load_model", load)
    manifests = [tiny_training.make_base(tmp_path / str(update), updates=update) for update in RESPONSES]
    fields = [*SAMPLE_KEY_FIELDS, pa.field("token_ids", pa.list_(pa.int32()))]
    rows = [
        {"update": update, "benchmark": "b", "question": "q", "sample": sample, "token_ids": ids}
        for update, answers in RESPONSES.items()
        for sample, ids in enumerate([*answers, [5]])  # the third is not shown
    ]
    write_parquet(tmp_path / "samples.parquet", pa.Table.from_pylist(rows, pa.schema(fields)))
    settings = {"updates": list(RESPONSES), "prompt": tiny_training.PROMPT, "temperature": TEMPERATURE}
    settings["tokens"] = 5  # two micro-batches
    given = ["--settings", json.dumps(settings), "--policies", *manifests, "--answers", 2]
    given += ["--samples", tmp_path / "samples.parquet", "--logprobs", tmp_path / "logprobs.parquet"]
    monkeypatch.setattr("sys.argv", ["measure_answers.py", *map(str, given)])
    measure_answers.main()
    found = pq.read_table(tmp_path / "logprobs.parquet").to_pylist()
    assert [(row["update"], row["sample"]) for row in found] == [(0, 0), (0, 1), (4, 0), (4, 1)]
    for row in found:
        model = load_model(tmp_path / str(row["update"]))
        ids = RESPONSES[row["update"]][row["sample"]]
        with torch.no_grad():
            logits_TV = model(torch.tensor([[PREFIX, *ids]])).logits[0, :-1].float() / TEMPERATURE
        expected_T = logits_TV.log_softmax(-1)[range(len(ids)), ids]
        assert row["logp_y"] == pytest.approx(expected_T.tolist(), abs=1e-5)
