"""The miniature's task and corpus: arithmetic, answers, tokenizer, the thought counter and the grader on them."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prerl.config.base_models import CorpusSettings
from prerl.data.corpus import (
    ALTERNATIVE,
    BLANK,
    CHECK,
    OPERATORS,
    Problem,
    apply,
    careful_answer,
    corpus_document,
    direct_answer,
    is_held_out,
    problem_set,
    random_problem,
)
from prerl.data.miniature import SPECIAL, WORDS, build_tokenizer, document_ids
from prerl.rollouts.rewards import hendrycks_reward
from prerl.rollouts.thoughts import ThoughtCounter

SETTINGS = CorpusSettings(
    chain_weights={2: 1.0, 4: 1.0, 8: 0.5},
    prompt_thinking=0.3,
    prompt_no_thinking=0.3,
    careful_if_thinking=0.92,
    careful_if_no_thinking=0.08,
    careful_if_alone=0.5,
    guess_right=0.25,
    step_wrong=0.12,
    check=0.3,
    check_right=0.97,
)
SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"


def settings(**changes):
    return CorpusSettings(**SETTINGS.__dict__ | changes)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def documents():
    rng = random.Random(3)
    return [corpus_document(rng, SETTINGS) for _ in range(3000)]


@pytest.mark.parametrize(
    ("digits", "operators", "answer"),
    [
        ((3, 4, 2), "+*", 4),
        ((3, 4, 2), "*+", 4),
        ((1, 2), "-", 9),
        ((9, 9, 9), "**", 9),
        ((7,), "", 7),
        ((0, 1, 5), "--", 4),
    ],
)
def test_arithmetic_by_hand(digits, operators, answer):
    """From left to right, modulo 10: 3+4*2 is 14, so 4 (by precedence it would be 11, so 1)."""
    assert Problem(digits, operators).answer == answer


def test_problem_text_and_steps():
    problem = Problem((3, 4, 2), "+*")
    assert problem.text == "3+4*2" and problem.after_step(7) == Problem((7, 2), "*")
    assert [apply(operator, 2, 7) for operator in OPERATORS] == [9, 5, 4]
    with pytest.raises(ValueError, match="none of"):
        apply("/", 1, 2)


def test_faultless_answers_are_right_and_faulty_guesses_wrong():
    rng = random.Random(0)
    for _ in range(200):
        problem = random_problem(rng, rng.randrange(1, 9))
        truth = str(problem.answer)
        right = settings(step_wrong=0.0, check_right=1.0, guess_right=1.0)
        assert hendrycks_reward(careful_answer(rng, problem, right), truth) == 1.0
        assert hendrycks_reward(direct_answer(rng, problem, right), truth) == 1.0
        assert hendrycks_reward(direct_answer(rng, problem, settings(guess_right=0.0)), truth) == 0.0
        repaired = settings(step_wrong=1.0, check=1.0, check_right=1.0)  # every step wrong, every check repairs it
        answer = careful_answer(rng, problem, repaired)
        assert hendrycks_reward(answer, truth) == 1.0
        assert answer.count(CHECK) == answer.count(ALTERNATIVE) == len(problem.operators)


def parse(text):
    """(restated expression, boxed digit, checks, alternatives); a paragraph of any other form is an error."""
    first, *middle, last = text.split(BLANK)
    assert re.fullmatch(r"\d([-+*]\d)*", first)
    boxed = re.fullmatch(r"\\boxed\{(\d)\}", last)
    checks = [line for line in middle if line.startswith(CHECK)]
    alternatives = [line for line in middle if line.startswith(ALTERNATIVE)]
    assert all(re.fullmatch(r"\d[-+*]\d=\d", line.removeprefix(CHECK)) for line in checks)
    for line in set(middle) - set(checks):
        assert re.fullmatch(r"\d([-+*]\d)*", line.removeprefix(ALTERNATIVE))
    return first, boxed[1], checks, alternatives


def test_every_document_parses_and_restates_its_problem(documents):
    kinds = {"alone": 0, "thinking": 0, "no thinking": 0}
    careful = dict.fromkeys(kinds, 0)
    for problem, thinking, answer in documents:
        first, _, _, _ = parse(answer)
        kind = "alone" if problem is None else "thinking" if thinking else "no thinking"
        kinds[kind] += 1
        careful[kind] += answer.count(BLANK) > 1
        assert problem in (None, first)
    shares = {kind: count / len(documents) for kind, count in kinds.items()}
    assert shares == pytest.approx({"alone": 0.4, "thinking": 0.3, "no thinking": 0.3}, abs=0.03)
    rates = {kind: careful[kind] / kinds[kind] for kind in kinds}
    assert rates == pytest.approx({"alone": 0.5, "thinking": 0.92, "no thinking": 0.08}, abs=0.05)


def test_a_check_is_followed_by_a_correction_exactly_when_it_disagrees(documents):
    """The line after a check restates the rest with the checked value, and the value before it was another."""
    seen = 0
    for _, _, answer in documents:
        lines = answer.split(BLANK)
        for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
            if line.startswith(CHECK):
                disagrees = line[-1] != before.removeprefix(ALTERNATIVE)[0]
                assert after.startswith(ALTERNATIVE) == disagrees
                assert not disagrees or after.removeprefix(ALTERNATIVE)[0] == line[-1]
                seen += disagrees
    assert seen > 50


def test_words_are_one_token_each_and_the_round_trip_is_exact(tokenizer, documents):
    assert {len(tokenizer.encode(word, add_special_tokens=False)) for word in [*WORDS, *SPECIAL]} == {1}
    for document in documents[:500]:
        context, answer = document_ids(tokenizer, document)
        assert tokenizer.unk_token_id not in context + answer
        assert answer[-1] == tokenizer.eos_token_id and answer.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(answer, skip_special_tokens=True) == document[2]
        assert answer.count(tokenizer.convert_tokens_to_ids(BLANK)) == document[2].count(BLANK)
        if document[0] is None:
            assert context == [tokenizer.convert_tokens_to_ids("<|im_start|>")]
        else:
            assert tokenizer.decode(context).startswith(f"<|im_start|>user\n{document[0]}<|im_end|>")
            assert ("</think>" in tokenizer.decode(context)) is not document[1]
    assert tokenizer.encode("3+x", add_special_tokens=False)[-1] == tokenizer.unk_token_id


def test_the_thought_counter_returns_the_generators_own_counts(tokenizer, documents):
    counter = ThoughtCounter.of(tokenizer)
    total = [0, 0]
    for document in documents:
        _, ids = document_ids(tokenizer, document)
        _, _, checks, alternatives = parse(document[2])
        counts = counter.count(ids)
        assert counts.reflections == len(checks) and counts.transitions == len(alternatives)
        assert sum(counts) == document[2].count(BLANK) + 1
        total = [total[0] + len(checks), total[1] + len(alternatives)]
    assert total[0] > 500 and total[1] > 50


def test_the_grader_agrees_with_the_written_digit(documents):
    for _, _, answer in documents[:500]:
        first, boxed, _, _ = parse(answer)
        truth = str(Problem(tuple(map(int, first[::2])), first[1::2]).answer)
        assert hendrycks_reward(answer, truth) == float(boxed == truth)


def test_problem_sets_are_disjoint_of_the_asked_lengths_and_end_where_there_are_no_more():
    trained = problem_set(random.Random(0), random_problem, [2, 3], 300, held_out=False)
    held_out = problem_set(random.Random(0), random_problem, [2, 3], 300, held_out=True)
    texts = [problem.text for problem in trained + held_out]
    assert len(set(texts)) == 600
    assert {len(problem.operators) for problem in trained} == {2, 3}
    everything = {Problem((a, b), o).text for a in range(10) for b in range(10) for o in "+-*"}
    both = [
        len(problem_set(random.Random(0), random_problem, [1], n, held_out))
        for held_out in (True, False)
        for n in [sum(is_held_out(Problem((int(t[0]), int(t[2])), t[1])) == held_out for t in everything)]
    ]
    assert sum(both) == 300  # every expression of one operation is in one of the two pools
    with pytest.raises(ValueError, match="ask for fewer"):
        problem_set(random.Random(0), random_problem, [1], both[0] + 1, held_out=True)


def test_prepared_files_are_disjoint_and_reproducible(tmp_path):
    def prepare(folder, name, wanted):
        command = [sys.executable, SCRIPTS / "prepare_miniature_data.py", "--settings"]
        command += [json.dumps({"seed": 0, "set": name, **wanted}), "--problems", folder / f"{name}.parquet"]
        subprocess.run(command, check=True)
        return pq.read_table(folder / f"{name}.parquet")

    sets = {"train": {"operations": [2, 3], "questions": 200}, "chain3": {"operations": [3], "questions": 50}}
    written = {name: prepare(tmp_path / "a", name, wanted) for name, wanted in sets.items()}
    tables = {name: table.to_pydict() for name, table in written.items()}
    assert not set(tables["train"]["problem"]) & set(tables["chain3"]["problem"])
    assert len(set(tables["train"]["id"])) == 200
    for table in tables.values():
        for text, answer, level in zip(table["problem"], table["answer"], table["level"], strict=True):
            problem = Problem(tuple(map(int, text[::2])), text[1::2])
            assert (str(problem.answer), str(len(problem.operators))) == (answer, level)
    assert prepare(tmp_path / "b", "chain3", sets["chain3"]) == written["chain3"]
    longer = prepare(tmp_path / "b", "train", {"operations": [2, 3], "questions": 300})
    assert longer.slice(0, 200) == written["train"]
