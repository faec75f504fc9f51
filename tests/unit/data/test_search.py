"""The second organism's task and corpus: one answer alone, trials in order, what the counter and the grader say."""

import json
import random
import re

import pyarrow.parquet as pq
import pytest

from job_scripts import succeed
from prerl.config.base_models import SearchSettings
from prerl.config.scales import read_config, read_files
from prerl.config.shapes import shape_of
from prerl.data.corpus import ALTERNATIVE, BLANK, CHECK, Problem, is_held_out, problem_set
from prerl.data.miniature import build_tokenizer, document_ids
from prerl.data.search import (
    CANDIDATES,
    UNKNOWN,
    Search,
    careful_search,
    direct_search,
    random_search,
    search_document,
)
from prerl.models.checkpoints import verify
from prerl.models.prompts import load_tokenizer
from prerl.rollouts.rewards import hendrycks_reward
from prerl.rollouts.thoughts import ThoughtCounter

SHARES = {"chain_weights": {2: 1.0, 3: 1.0}, "prompt_thinking": 0.3, "prompt_no_thinking": 0.3}
SHARES |= {"careful_if_thinking": 0.92, "careful_if_no_thinking": 0.08, "careful_if_alone": 0.5, "guess_right": 0.25}


def settings(**changes):
    return SearchSettings(**SHARES | {"step_wrong": 0.03, "give_up": 0.25} | changes)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer([UNKNOWN])


@pytest.fixture(scope="module")
def documents():
    rng = random.Random(3)
    return [search_document(rng, settings()) for _ in range(2000)]


def test_a_problem_by_hand():
    """((2+4)*3) mod 10 = 8."""
    search = Search(Problem((2, 4, 3), "+*"))
    assert (search.text, search.answer, search.operators) == ("x+4*3=8", 2, "+*")


def test_one_digit_alone_gives_the_value():
    rng = random.Random(0)
    for _ in range(300):
        chain = random_search(rng, rng.randrange(1, 5)).chain
        values = [Problem((digit, *chain.digits[1:]), chain.operators).answer for digit in range(10)]
        assert sorted(values) == list(range(10)) and values.index(chain.answer) == chain.digits[0] < CANDIDATES


def test_a_patient_search_without_errors_is_right_and_a_guess_as_often_as_asked():
    rng = random.Random(0)
    for _ in range(200):
        search = random_search(rng, rng.randrange(1, 4))
        truth = str(search.answer)
        assert hendrycks_reward(careful_search(rng, search, settings(step_wrong=0.0, give_up=0.0)), truth) == 1.0
        assert hendrycks_reward(direct_search(rng, search, settings(guess_right=1.0)), truth) == 1.0
        assert hendrycks_reward(direct_search(rng, search, settings(guess_right=0.0)), truth) == 0.0
        impatient = careful_search(rng, search, settings(give_up=1.0))
        assert impatient.count(CHECK) == 1 and ALTERNATIVE not in impatient


def trials(answer):
    """[(digit, value)] of each trial, with the lines of its chain read; a line of any other form is an error."""
    first, *middle, last = answer.split(BLANK)
    assert re.fullmatch(r"x([-+*]\d)+=\d", first) and re.fullmatch(r"\\boxed\{[0-4]\}", last)
    found = []
    for number, line in enumerate(middle):
        assert line.startswith(CHECK) == (number == 0)
        if line.startswith((CHECK, ALTERNATIVE)):
            line = line.removeprefix(CHECK).removeprefix(ALTERNATIVE)
            assert line[1:] == first[1:].split("=")[0]
            found.append([int(line[0]), None])
        assert re.fullmatch(r"\d([-+*]\d)*", line)
        if len(line) == 1:
            found[-1][1] = int(line)
    return found


def test_trials_go_on_with_the_next_digit_until_one_fits_or_patience_ends(documents):
    ends = {"fits": 0, "given up": 0}
    for problem, _, answer in documents:
        assert problem in (None, answer.split(BLANK)[0])
        if found := trials(answer):
            target = int(answer.split(BLANK)[0][-1])
            digits = [digit for digit, _ in found]
            assert digits == [(digits[0] + i) % CANDIDATES for i in range(len(digits))]
            assert all(value != target for _, value in found[:-1])
            assert answer.endswith(f"{{{digits[-1]}}}")
            ends["fits" if found[-1][1] == target else "given up"] += 1
    assert ends["fits"] > ends["given up"] > 100


def test_the_counter_and_the_tokenizer_know_the_corpus(tokenizer, documents):
    counter = ThoughtCounter.of(tokenizer)
    for document in documents[:500]:
        context, ids = document_ids(tokenizer, document)
        assert tokenizer.unk_token_id not in context + ids
        counts, found = counter.count(ids), trials(document[2])
        assert (counts.reflections, counts.transitions) == (bool(found), max(len(found) - 1, 0))


def test_problem_sets_are_disjoint_and_the_corpus_holds_none_of_the_benchmarks(documents):
    made = [problem_set(random.Random(0), random_search, [2, 3], 300, held_out) for held_out in (False, True)]
    assert len({search.text for part in made for search in part}) == 600
    assert all(is_held_out(search) for search in made[1])
    restated = {answer.split(BLANK)[0] for _, _, answer in documents}
    assert not restated & {search.text for search in made[1]} and restated & {search.text for search in made[0]}


def test_the_planner_knows_the_vocabulary(tokenizer):
    block = read_config(read_files() | {"scale": "search"})
    assert shape_of(block["models"]["search"]).vocab_size == len(tokenizer)


@pytest.mark.slow
def test_the_scripts_make_a_model_and_its_problems(tmp_path):
    block = read_config(read_files() | {"scale": "search"})
    generated = block["models"]["search"]["generated"]
    generated["pretraining"] |= {"updates": 2, "batch_documents": 4}
    manifest, problems = tmp_path / "model/manifest.json", tmp_path / "search2.parquet"
    succeed("pretrain_search_model", "--settings", json.dumps({"seed": 1} | generated), "--manifest", manifest)
    settings = {"seed": 0, "set": "search2"} | block["data"]["benchmarks"]["search2"]["generated"]
    succeed("prepare_miniature_data", "--settings", json.dumps(settings), "--problems", problems)
    tokenizer = load_tokenizer(verify(manifest))
    for row in pq.read_table(problems).to_pylist():
        assert re.fullmatch(r"x([-+*]\d){2}=\d", row["problem"]) and row["answer"] in "01234"
        assert tokenizer.unk_token_id not in tokenizer.encode(row["problem"])
