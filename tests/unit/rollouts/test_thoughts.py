"""SEAL's thought rule on token ids."""

import random
from pathlib import Path

import pytest

from prerl.rollouts.thoughts import ThoughtCounter, ThoughtCounts, classify_thought, count_thoughts, split_thoughts

QWEN = Path(__file__).parents[4] / "shared" / "data" / "qwen_tokenizer"
TABLE = [
    "",
    "\n\n",
    ".\n\n",
    "Wait",
    "Alternatively",
    " so",
    " verify",
    "\n",
    " 7",
    " another way",
    "Let me check",
    "\n\n\n",
]
EOS = 0  # a special token: decodes to nothing


def decode(token_ids):
    return "".join(TABLE[token] for token in token_ids)


def is_blank_line(token):
    return "\n\n" in TABLE[token]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Wait, that is off.", "reflection"),
        ("  \nWAIT", "reflection"),
        ("I cannot wait", "execution"),  # `wait` counts at the start only
        ("Waiting", "reflection"),
        ("So let me verify 7.", "reflection"),
        ("I make sure", "reflection"),
        ("Hold on!", "reflection"),
        ("We think again", "reflection"),
        ("That's correct", "reflection"),
        ("That's incorrect", "reflection"),
        ("That is correct", "execution"),
        ("Let me check: 3 + 4", "reflection"),
        ("This seems right", "reflection"),
        ("Alternatively, 8", "transition"),
        ("Or alternatively 8", "execution"),
        ("Let us think differenly", "transition"),  # SEAL's spelling …
        ("Let us think differently", "execution"),  # … and only that
        ("Try another way", "transition"),
        ("another approach", "transition"),
        ("another method", "transition"),
        ("another solution", "transition"),
        ("another strategy", "transition"),
        ("another technique", "transition"),
        ("another idea", "execution"),
        ("Alternatively, let me check", "reflection"),  # reflection is tested first
        ("Wait, another way", "reflection"),
        ("3 + 4 = 7", "execution"),
    ],
)
def test_classify_thought(text, kind):
    assert classify_thought(text) == kind


def test_counts_worked_by_hand():
    # "Wait so" | "Alternatively 7" | " 7\n" (single line feed) … EOS
    tokens = [3, 5, 1, 4, 8, 2, 8, 7, EOS]
    assert split_thoughts(tokens, decode, is_blank_line) == ["wait so", "alternatively 7", "7"]
    assert count_thoughts(tokens, decode, is_blank_line) == ThoughtCounts(1, 1, 1)


def test_empty_pieces_are_no_thoughts():
    assert count_thoughts([], decode, is_blank_line) == (0, 0, 0)
    assert count_thoughts([1, 1, 11, 7, 1, EOS], decode, is_blank_line) == (0, 0, 0)
    assert count_thoughts([1, 8, 1, 1, 8, 1], decode, is_blank_line) == (0, 0, 2)


def test_two_line_feeds_in_two_tokens_do_not_split():
    assert split_thoughts([8, 7, 7, 8], decode, is_blank_line) == ["7\n\n 7"]


def test_the_order_of_thoughts_does_not_change_the_counts():
    thoughts = [[3, 8], [4, 8], [8], [5, 6], [9], [10, 8, 7], [8, 8]]
    for seed in range(20):
        random.Random(seed).shuffle(thoughts)
        tokens = [token for thought in thoughts for token in [*thought, 1]]
        assert count_thoughts(tokens, decode, is_blank_line) == (3, 2, 2)


def test_against_a_naive_loop():
    generator = random.Random(3)
    for _ in range(500):
        tokens = [generator.randrange(len(TABLE)) for _ in range(generator.randrange(30))]
        counts, piece = {"reflection": 0, "transition": 0, "execution": 0}, ""
        for token in [*tokens, 1]:
            if is_blank_line(token):
                if piece.strip():
                    counts[classify_thought(piece)] += 1
                piece = ""
            else:
                piece += TABLE[token]
        assert count_thoughts(tokens, decode, is_blank_line) == tuple(counts.values())


def test_counter_with_a_byte_level_tokenizer():
    """Real Qwen ids: `.\\n\\n` is one token, an emoji spans several, and the end token is no thought."""
    if not (QWEN / "vocab.json").is_file():
        pytest.skip(f"{QWEN} is absent: put the Qwen tokenizer files there")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(QWEN)
    text = "So 7.\n\nWait 🧮 é?\n\n\n\nAlternatively, try 8:\n\nLet me check 🧮\n\n"
    tokens = [*tokenizer.encode(text), tokenizer.convert_tokens_to_ids("<|im_end|>")]
    for own in (tokenizer, tokenizer.backend_tokenizer):
        counter = ThoughtCounter.of(own)
        assert counter.count(tokens) == (2, 1, 1)
        thoughts = split_thoughts(tokens, counter.decode, counter.is_blank_line)
        assert thoughts[1] == "wait 🧮 é"  # the splitting token `?\\n\\n\\n\\n` is dropped
