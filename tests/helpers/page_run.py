"""A finished run of the synthetic study, with its page; answers that would run something if they were not escaped."""

import json
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import page as script
import synthetic
from prerl.config.scales import read_config, read_files
from prerl.publishing.browser import AnswerWriter, write_questions
from prerl.publishing.provenance import summary
from prerl.publishing.watching import WATCHED
from publish_scripts import FIGURES, TABLES, run

BLOCK = read_config(read_files() | {"scale": "miniature"})
SMALL: dict = {"seeds": [11, 12, 13], "methods": ("grpo", "prerl", "nsr_prerl", "dsrl", "dsrl_s5", "nsr_rl_warmup")}
HOSTILE = {
    "script": "</script><script>window.hit = 1</script>",
    "onerror": '<img src=x onerror="window.hit = 1">',
    "style": "</style><style>*{display:none}</style>",
    "latex": r"\href{javascript:window.hit=1}{x} $\url{http://example.org}$",
    "long": "9" * 200_000,
    "bidi": "a\u202eb\u2066c",
    "surrogate": "7\ud800",
    "separators": "a\u2028b\u2029c",
    "quote": "'\"`${window.hit=1}\\",
}
DOT = """digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
	0[label = "all", color = "0.06 0.6 0.85", style="rounded"];
	1[label = "figure_main", color = "0.22 0.6 0.85", style="rounded"];
	2[label = "train_policy", color = "0.32 0.6 0.85", style="rounded,dashed"];
	3[label = "reincarnate_policy", color = "0.32 0.6 0.85", style="rounded"];
	10[label = "prepare_data", color = "0.32 0.6 0.85", style="rounded"];
	1 -> 0
	2 -> 1
	10 -> 2
	10 -> 1
	2 -> 3
	3 -> 2
}
"""


def tokenizer() -> Tokenizer:
    """Byte-level BPE, as Qwen's, with one special token and a token of a blank line."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n\n", "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|im_end|>"]
    )
    made.train_from_iterator(["So 3 + 4\n\nWait, let me check\n\n"] * 50, trainer)
    return made


def write_answers(folder: Path) -> None:
    """Answers of two policies to each HOSTILE problem: GRPO right and DSRL wrong on the even ones, else the reverse."""
    writer = AnswerWriter.of(tokenizer())
    problems = [
        {"id": f"{name} <i>", "problem": text, "answer": text[:50]} for name, text in HOSTILE.items() if name != "long"
    ]
    texts = {problem["id"]: f"{HOSTILE[problem['id'][:-4]]}\n\nWait, let me check" for problem in problems}
    texts["style <i>"] = HOSTILE["long"]
    policies = [
        {"id": f"{method}@60/11", "label": f"{method.upper()} @60 <b>", "main": True, "seed": 11}
        for method in ("grpo", "dsrl")
    ]
    order = list(texts)

    def answers(question: str) -> list[dict]:
        ids = writer.tokenizer.encode(texts[question].encode("utf-8", "replace").decode()).ids
        found = []
        for index, policy in enumerate(policies):
            row = {"sample": 0, "token_ids": ids, "boxed": "<b>", "logprobs": {"yx": [-1.5] * len(ids)}}
            if index:
                row["logprobs"]["y"] = [-3.0] * len(ids)
            outcome = "right" if (order.index(question) + index) % 2 == 0 else "wrong"
            found.append(writer.answer(policy["id"], row, outcome))
        return found

    write_questions(folder / "miniature", "miniature", "chain3", problems, answers, policies)


def arguments_of(results: Path, config: dict, study: Path) -> list[str]:
    """Command line of page.py as the rule gives it."""
    given = ["--results", results, "--settings", json.dumps(config), "--block", json.dumps(BLOCK)]
    given += [
        "--study",
        "3 seeds.",
        "--curves",
        *sorted(study.glob("*.curves.parquet")),
        "--rules",
        study / "rules.dot",
    ]
    return [str(argument) for argument in given]


def make_run(folder: Path) -> Path:
    """A finished run in `folder`/results, of the tables in `folder`/study."""
    config = synthetic.settings(**SMALL)
    (folder / "study").mkdir()
    study = synthetic.write_study(folder / "study", config)
    results = folder / "results"
    for kind, targets in (("figures", FIGURES), ("tables", TABLES)):
        (results / kind).mkdir(parents=True)
        for target in targets:
            run(target, study, results / kind)
    (results / "provenance.json").write_text(json.dumps(summary([], config) | {"rules": {}}))
    write_answers(results / "page/rollouts")
    (folder / "study/rules.dot").write_text(DOT)
    make_page(*arguments_of(results, config, folder / "study"))
    return results


def make_page(*arguments: str) -> None:
    """Run page.py in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["page.py", *arguments])
        script.main()


def write_run(state: Path, method: str, updates: int, of: int, folder: str = "0123") -> Path:
    """A run that has done `updates` of `of`: reward 0.1 u, length 10 u."""
    run = state / "miniature" / method / "seed11"
    (run / folder / "metrics").mkdir(parents=True, exist_ok=True)
    for update in range(1, updates + 1):
        values = dict.fromkeys(WATCHED, 1.0)
        values |= {"update": update, "reward_mean": 0.1 * update, "response_tokens_mean": 10.0 * update}
        (run / folder / f"metrics/update{update:06d}.json").write_text(json.dumps(values))
    progress = {"update": updates, "first_update": 1, "updates": of, "reward": 0.1 * updates}
    (run / "progress.json").write_text(json.dumps(progress))
    return run
