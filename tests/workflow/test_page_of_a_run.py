"""The page of a finished smoke run, made by its rules."""

import json
import re

import pytest
from tokenizers import Tokenizer

from checkouts import snakemake
from prerl.core.files import read_table

MODEL = "miniature"


@pytest.fixture(scope="module")
def results(smoke_run):
    return smoke_run / "results/smoke"


def value_of(file):
    """What a file of page/ hands to the page."""
    return json.loads(file.read_text().split(",", 1)[1].removesuffix(");\n"))


def test_the_page_is_whole(results):
    page = (results / "index.html").read_text(encoding="utf-8")
    assert len(page) < 15e6 and "Its numbers mean nothing." in page
    assert "This scale gives no verdicts." in (results / "paper_vs_ours.md").read_text(encoding="utf-8")
    facts = json.loads((results / "page/page.json").read_text())
    assert facts["provenance"]["changed"] == [] and facts["provenance"]["hashes"]
    graph = facts["provenance"]["graph"]
    assert graph["browse_rollouts"] == [
        "generate_samples", "grade_samples", "measure_answers", "prepare_miniature_data", "pretrain_miniature_model"
    ]  # fmt: skip
    assert "reincarnate_policy" in graph["train_policy"] and "page" in graph and "all" not in graph
    files = {f"{entry['file']}.js" for entry in facts["training"][MODEL]}
    assert {file.name for file in (results / f"page/training/{MODEL}").iterdir()} == files


def test_the_answers_of_the_page_are_those_of_the_run(results):
    """Text, both log-probs and outcome of every answer of GRPO on a benchmark; log P(y) of these methods alone."""
    run = results / f"{MODEL}/grpo/seed1"
    samples = read_table(run / "samples.parquet").to_pandas().set_index(["benchmark", "question", "update", "sample"])
    grades = read_table(run / "grades.parquet").to_pandas().set_index(["benchmark", "question", "update", "sample"])
    tokenizer = Tokenizer.from_file(str(results / f"{MODEL}/base/seed1/model/tokenizer.json"))
    alone = read_table(run / "logprobs.parquet").to_pandas().set_index(["benchmark", "question", "update", "sample"])
    compared, measured = 0, set()
    for file in sorted((results / f"page/rollouts/{MODEL}/chain4").glob("*.js")):
        page = value_of(file)
        for answer in page["answers"]:
            if answer["policy"].startswith("grpo@"):
                update = int(answer["policy"].removeprefix("grpo@").split("/")[0])
                key = ("chain4", page["id"], update, answer["sample"])
                row = samples.loc[key]
                shown = re.sub(r"⟨<[^⟩]+>⟩", "", "".join(answer["tokens"]))  # the named special tokens
                assert shown == tokenizer.decode(row["token_ids"], skip_special_tokens=True)
                assert answer["logprobs"]["yx"] == [round(100 * float(value)) for value in row["logprobs"]]
                assert answer["logprobs"]["y"] == [round(100 * float(value)) for value in alone.loc[key, "logp_y"]]
                assert (answer["outcome"] == "right") == bool(grades.loc[key, "hendrycks"])
                compared += 1
            measured |= {answer["policy"].split("@")[0]} if "y" in answer["logprobs"] else set()
    of_benchmark = samples.loc["chain4"].reset_index()
    assert compared == len(of_benchmark) > 0
    assert measured == {"base", "grpo", "nsr_prerl", "dsrl"}


def test_another_number_of_answers_makes_them_again_and_trains_nothing(smoke_run):
    (smoke_run / "fewer.yaml").write_text("scales: {smoke: {page: {answers_per_question: 1}}}\n")
    plan = snakemake(smoke_run, "-n", "--configfile", "fewer.yaml", "--config", "scale=smoke")
    assert plan.returncode == 0 and "browse_rollouts" in plan.stdout
    assert not {"train_policy", "measure_answers"} & set(re.findall(r"\w+", plan.stdout))  # the weights may be gone
    (smoke_run / "fewer.yaml").unlink()


def test_answers_of_others_make_the_page_again_and_nothing_else(smoke_run, results):
    def planned():
        plan = snakemake(smoke_run, "-n", "--config", "scale=smoke")
        return set(re.findall(r"^(?:local)?rule (\w+):", plan.stdout, re.M))

    assert planned() == set()
    others = results / "external/answers.md"
    others.parent.mkdir()
    others.write_text("| benchmark |\n|---|\n")
    assert planned() == {"all", "page"}
    others.unlink()
    others.parent.rmdir()
