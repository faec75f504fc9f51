"""The jobs of a dry run, from its text."""

from prerl.planning.dry_runs import planned_jobs

TEXT = """\
[Mon Nov 30 16:07:33 2026]
rule train_policy:
    input: a.parquet, b.parquet
    output: c.parquet
    benchmark: results/smoke/benchmarks/train_policy/mini_grpo_seed1.tsv
    wildcards: model=mini, method=grpo, seed=1
    resources: cpus=1, engine=transformers

localrule all:
    input: c.parquet

checkpoint choose_seeds:
    output: seeds.json
"""


def test_rules_local_rules_and_checkpoints_are_jobs():
    training, everything, checkpoint = planned_jobs(TEXT)
    assert training.key == ("train_policy", "mini", "grpo", "1")
    assert training.inputs == ("a.parquet", "b.parquet") and training.outputs == ("c.parquet",)
    assert training.resources == {"cpus": "1", "engine": "transformers"}
    assert everything.key == ("all",) and everything.inputs == ("c.parquet",)
    assert checkpoint.key == ("choose_seeds",) and checkpoint.outputs == ("seeds.json",)
